"""How many iterations SGD, Adam and clipping need on quadratics whose blocks are alike, unlike, or not separated.

L(w) = ½ wᵀHw of condition number 5000. Each trial has its own random rotation and its own normal start. Every method
has the setting of its grid with the lowest median, chosen on the same trials.
Source of the cases: Zhang et al., "Why Transformers Need Adam: A Hessian Perspective", NeurIPS 2024, arXiv:2402.16788.

Beside the given eigenvalues, those of two small networks at initialization are used, measured block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.base import DataSettings
from ...data.mnist5k import MNIST5k
from ...data.text import KJV
from ...figures.synthetic import draw_iterations
from ...files import Row
from ...grid import best_point
from ...hessian import batch_norm_statistics, block_spectra
from ...models.base import ModelSettings
from ...models.gpt2 import GPT2Nano
from ...models.resnet import ResNet18
from ...progress import Track
from ...seeds import derive_seed
from ...settings import Settings
from ...synthetic.intervals import Array, ends, resampled
from ...synthetic.quadratics import (
    HETEROGENEOUS,
    HOMOGENEOUS,
    Blocks,
    Quadratics,
    condition_numbers,
    conditioned,
    draw_quadratics,
    eigenvalues_of_nodes,
    preconditioned_iterations,
    simulated_iterations,
)
from ...synthetic.trials import Rule, acclip, adam, cclip, gclip, sgd
from ...tasks.base import TaskSettings
from ...tasks.causal_lm import CausalLM
from ...tasks.classification import Classification
from ...tasks.problem import build_problem
from ..statistics import share_of_trials
from .tuned_runs import MakeRow, Parts, SummaryRow, Tables, estimate

LR_FRACTIONS = (*np.linspace(0.5, 0.95, 10).round(2).tolist(), 0.97, 0.98, 0.99, 0.995, 0.998, 1.0, 1.05)
"""Of the lr at which the smallest and the largest curvature contract alike; more than 1.0 diverges sooner or later."""

MOMENTA = (0.8, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.99)
MOMENTUM_FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05)
"""Of 2(1 + momentum)/(λ_min + λ_max), about the largest lr that does not diverge."""

ADAM_RATES = np.geomspace(1e-4, 10, 26).tolist()
"""Adam's step is about as long as its learning rate, at any scale of H."""

ACCLIP_FRACTIONS = np.geomspace(0.03, 100, 26).tolist()
"""Of gradient descent's best lr, as are the next."""

CLIPPED_FRACTIONS = (0.3, 0.7, 1.0, 10.0, 100.0, 1000.0)
LONGEST_STEPS = np.geomspace(1e-4, 10, 11).tolist()
"""lr · clip."""


class QuadraticsStudy(Settings):
    """How much is computed.

    Attributes:
        trials: random rotations and starts.
        tolerance: of the loss, relative to the first.
        most: iterations that are simulated at most.
        networks: whose measured blocks are used, besides the given eigenvalues.
        eigenvalues: of each measured block.
        lanczos_steps: of their measurement.
        resamples: of the bootstrap.
    """

    trials: int = 100
    tolerance: float = 1e-6
    most: int = 20_000
    networks: tuple[str, ...] = ("transformer", "cnn")
    eigenvalues: int = 4
    lanczos_steps: int = 10
    resamples: int = 1_000


SCALES = {
    "tiny": QuadraticsStudy(
        trials=5, tolerance=1e-2, most=300, networks=(), eigenvalues=2, lanczos_steps=4, resamples=20
    ),
    "quick": QuadraticsStudy(),
    "paper": QuadraticsStudy(trials=1_000, most=40_000, eigenvalues=10, lanczos_steps=50, resamples=2_000),
}

Tuned = tuple[Array, Sequence[dict[str, float]]]
"""A method's iterations ``[settings, trials]``, infinite where the tolerance was not reached; and the settings."""


def _preconditioned(scale: Callable[[Quadratics], Tensor], problems: Quadratics, study: QuadraticsStudy) -> Tuned:
    fractions = torch.tensor(LR_FRACTIONS, dtype=torch.float64)
    needed = preconditioned_iterations(problems, scale(problems), study.tolerance, fractions)
    return needed.numpy(), [{"lr_fraction": fraction} for fraction in LR_FRACTIONS]


def _heavy_ball(problems: Quadratics, study: QuadraticsStudy) -> Tuned:
    needed: list[Array] = []
    settings: list[dict[str, float]] = []
    for momentum in MOMENTA:
        tried = [
            {"momentum": momentum, "lr": part * (1 + momentum) * _best_rate(problems), "lr_fraction": part}
            for part in MOMENTUM_FRACTIONS
        ]
        needed.append(_simulated(partial(sgd, momentum), tried, problems, study)[0])
        settings += tried
    return np.concatenate(needed), settings


def _adam(betas: tuple[float, float], problems: Quadratics, study: QuadraticsStudy) -> Tuned:
    return _simulated(partial(adam, betas), [{"lr": lr} for lr in ADAM_RATES], problems, study)


def _acclip(problems: Quadratics, study: QuadraticsStudy) -> Tuned:
    settings = [{"lr": fraction * _best_rate(problems)} for fraction in ACCLIP_FRACTIONS]
    return _simulated(acclip, settings, problems, study)


def _clipped(rule: Callable[[], Rule], problems: Quadratics, study: QuadraticsStudy) -> Tuned:
    settings = [
        {"lr": fraction * _best_rate(problems), "clip": step / (fraction * _best_rate(problems)), "longest_step": step}
        for fraction, step in product(CLIPPED_FRACTIONS, LONGEST_STEPS)
    ]
    return _simulated(rule, settings, problems, study)


def _simulated(
    rule: Callable[[], Rule], settings: Sequence[dict[str, float]], problems: Quadratics, study: QuadraticsStudy
) -> Tuned:
    lr = torch.tensor([setting["lr"] for setting in settings], dtype=torch.float64)
    clip = torch.tensor([setting.get("clip", torch.inf) for setting in settings], dtype=torch.float64)
    return simulated_iterations(problems, rule(), lr, clip, study.tolerance, study.most).numpy(), settings


def _best_rate(problems: Quadratics) -> float:
    """Gradient descent's 2/(λ_min + λ_max); all trials have the same eigenvalues."""
    values: Any = torch.linalg.eigvalsh(problems.hessian[0])
    return 2 / float(values[0] + values[-1])


METHODS: dict[str, Callable[[Quadratics, QuadraticsStudy], Tuned]] = {
    "sgd": partial(_preconditioned, lambda problems: torch.ones_like(problems.start)),
    "sgd_blockwise": partial(_preconditioned, Quadratics.block_scale),
    "adam_frozen": partial(_preconditioned, lambda problems: problems.gradient(problems.start).abs()),
    "adam_without_momentum": partial(_adam, (0.0, 0.999)),
    "gclip": partial(_clipped, gclip),
    "cclip": partial(_clipped, cclip),
    "sgd_momentum": _heavy_ball,
    "adam": partial(_adam, (0.9, 0.999)),
    "acclip": _acclip,
}
"""Adam with β₁ = 0 and β₂ = 1, v₀ = g₀², is ``adam_frozen``: its scale stays |g₀|."""


@dataclass(frozen=True)
class Network:
    """A network whose spectrum is measured in seconds.

    Attributes:
        model: with its ``data`` and ``task``.
        blocks: names of parameters.
        examples: over which the loss is the mean.
    """

    model: ModelSettings
    data: DataSettings
    task: TaskSettings
    blocks: Sequence[str]
    examples: int


LAYER = "transformer.h.0"

NETWORKS = {
    "transformer": Network(
        GPT2Nano(n_layer=1, n_embd=32, n_head=2, dropout=0.0, attention="eager"),
        KJV(tokenizer="char", block_size=32),
        CausalLM(),
        (
            "transformer.wte.weight",
            *(f"{LAYER}.attn.c_attn.weight.{part}" for part in ("query", "key", "value")),
            f"{LAYER}.attn.c_proj.weight",
            f"{LAYER}.mlp.c_fc.weight",
        ),
        examples=16,
    ),
    "cnn": Network(
        ResNet18(layers=(1, 1, 1, 1), stem="small"),
        MNIST5k(),
        Classification(),
        ("conv1.weight", *(f"layer{stage}.0.conv1.weight" for stage in range(1, 5)), "fc.weight"),
        examples=8,
    ),
}
"""A GPT2 with one layer on the embedded text, and a ResNet with four residual blocks on digits."""


def measure_nodes(name: str, steps: int, seed: int) -> list[Row]:
    """The rows of a nodes.csv of one of ``NETWORKS``, by stochastic Lanczos quadrature with one probe per block."""
    network = NETWORKS[name]
    problem = build_problem(network.model, network.data, network.task, seed)
    batch = problem.train.batch([(0, index) for index in range(network.examples)])
    problem.model.eval()
    with batch_norm_statistics(problem.model, problem.loss, [batch], "calibrated"):
        spectra = block_spectra(problem.model, problem.loss, [batch], network.blocks, steps=steps, probes=1, seed=seed)
    return [
        {"block": block, "size": spectrum.size, "probe": 0, "node": node, "weight": weight}
        for block, spectrum in spectra.items()
        for node, weight in zip(spectrum.nodes[0].tolist(), spectrum.weights[0].tolist(), strict=True)
    ]


CONDITION_NUMBER = 5000.0
BOUND_OF_R = 1000.0
"""The theorem's bound on r, which holds with probability 2/3."""


def tables(settings: QuadraticsStudy, parts: Parts, seed: int, track: Track) -> Tables:
    """The measured nodes, the theory's constants by case, and iterations by case and method."""
    found: dict[str, list[Row]] = {}
    cases: dict[str, Blocks] = {"heterogeneous": HETEROGENEOUS, "homogeneous": HOMOGENEOUS, "dense": HETEROGENEOUS}
    for network in settings.networks:
        nodes = parts.rows(f"nodes_{network}", partial(measure_nodes, network, settings.lanczos_steps, seed))
        found[f"nodes_{network}"] = nodes
        measured = eigenvalues_of_nodes(nodes, settings.eigenvalues)
        cases[network] = conditioned(list(measured.values()), CONDITION_NUMBER)
    problems = {case: _draw(settings, case, blocks, seed) for case, blocks in cases.items()}
    found["constants"] = [_constants(settings, case, drawn, seed) for case, drawn in problems.items()]
    found["iterations"] = []
    jobs = list(product(cases, METHODS))
    for case, method in track("quadratics", jobs, len(jobs)):
        compute = partial(_measure, settings, case, method, problems[case], seed)
        found["iterations"] += parts.rows(f"{case}-{method}", compute)
    return found


def draw(tables: Tables, folder: Path) -> None:
    """Iterations by case and method."""
    draw_iterations(tables["iterations"], folder / "iterations")


def summary(tables: Tables, settings: QuadraticsStudy, row: MakeRow) -> Iterator[SummaryRow]:
    """Median iterations by case and method, and by case how often the theorem's r lies within its bound."""
    for method in tables["iterations"]:
        tuning = {"tried": method["settings"], "at_edge": method["at_edge"]}
        median = estimate(method, settings.trials, value="median")
        yield row(f"{method['case']}/{method['method']}", "iterations", median, settings.trials, **tuning)
    for case in tables["constants"]:
        share = share_of_trials(case["share_of_r_within_bound"], settings.trials)
        yield row(case["case"], "share_of_r_within_bound", share, settings.trials)


def _draw(settings: QuadraticsStudy, case: str, blocks: Blocks, seed: int) -> Quadratics:
    generator = torch.Generator().manual_seed(derive_seed(seed, f"quadratics {case}"))
    return draw_quadratics(blocks, settings.trials, generator, dense=case == "dense")


def _constants(settings: QuadraticsStudy, case: str, problems: Quadratics, seed: int) -> Row:
    """κ(H), the largest κ of a block, and r, here κ(D^(−1/2) H D^(−1/2))/max κ with D = diag|g₀|."""
    of_blocks = torch.stack([condition_numbers(block) for block in problems.blocks()]).amax(0)
    root = problems.gradient(problems.start).abs().sqrt()
    preconditioned = condition_numbers(problems.hessian / (root.unsqueeze(1) * root.unsqueeze(2)))
    r = (preconditioned / of_blocks).numpy()
    low, high = ends(resampled(r, _median, settings.resamples, derive_seed(seed, "bootstrap r")))
    return {
        "case": case,
        "size": problems.start.shape[1],
        "blocks": len(problems.sizes),
        "kappa": float(condition_numbers(problems.hessian).median()),
        "largest_block_kappa": float(of_blocks.median()),
        "r_median": float(np.median(r)),
        "r_ci_low": float(low),
        "r_ci_high": float(high),
        "share_of_r_within_bound": float((r <= BOUND_OF_R).mean()),
    }


def _measure(settings: QuadraticsStudy, case: str, method: str, problems: Quadratics, seed: int) -> list[Row]:
    """The one row of a case and a method: its best setting."""
    needed, tried = METHODS[method](problems, settings)
    best = best_point(tried, _median(needed).tolist())
    own = needed[best.index]
    low, high = ends(resampled(own, _median, settings.resamples, derive_seed(seed, f"bootstrap {method}")))
    tuning = {"settings": best.tried, "at_edge": best.at_edge, "trials": settings.trials}
    return [
        {"case": case, "method": method}
        | {name: _quantile(own, q) for name, q in (("quantile_10", 0.1), ("median", 0.5), ("quantile_90", 0.9))}
        | {"ci_low": float(low), "ci_high": float(high), "reached": float(np.isfinite(own).mean())}
        | {name: tried[best.index].get(name) for name in ("lr", "lr_fraction", "momentum", "clip")}
        | tuning
    ]


def _quantile(needed: Array, q: float) -> Array:
    """A quantile over the last axis; it is one of the values, so that it may be infinite."""
    return np.quantile(needed, q, axis=-1, method="higher")


_median = partial(_quantile, q=0.5)
