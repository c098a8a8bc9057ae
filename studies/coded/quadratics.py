"""How many iterations SGD, Adam and clipping need on quadratics with alike blocks, unlike blocks, and none.

L(w) = ½ wᵀHw of condition number 5000. Each trial has its own random rotation and its own normal start. Every method
has the setting of its grid with the lowest median, chosen on the same trials.
Source of the cases: Zhang et al., "Why Transformers Need Adam: A Hessian Perspective", NeurIPS 2024, arXiv:2402.16788.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from ...figures.quadratics import draw_iterations
from ...noise.measure import Watch
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
)
from ..csv_tables import Row, write_table
from .measured_blocks import measure_nodes
from .pieces import Pieces
from .tuned_methods import METHODS, Budget

CONDITION_NUMBER = 5000.0
BOUND_OF_R = 1000.0
"""The theorem's bound on r, which holds with probability 2/3."""


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

    trials: int
    tolerance: float
    most: int
    networks: tuple[str, ...]
    eigenvalues: int
    lanczos_steps: int
    resamples: int


SCALES = {
    "tiny": QuadraticsStudy(
        trials=5, tolerance=1e-2, most=300, networks=(), eigenvalues=2, lanczos_steps=4, resamples=20
    ),
    "quick": QuadraticsStudy(
        trials=100,
        tolerance=1e-6,
        most=20_000,
        networks=("transformer", "cnn"),
        eigenvalues=4,
        lanczos_steps=10,
        resamples=1_000,
    ),
    "paper": QuadraticsStudy(
        trials=1_000,
        tolerance=1e-6,
        most=40_000,
        networks=("transformer", "cnn"),
        eigenvalues=10,
        lanczos_steps=50,
        resamples=2_000,
    ),
}


def study(folder: Path, scale: str, seed: int, watch: Watch) -> None:
    """Write iterations.csv (a row a case and method), constants.csv (those of the theory), and a picture."""
    settings, pieces = SCALES[scale], Pieces(folder)
    cases: dict[str, Blocks] = {"heterogeneous": HETEROGENEOUS, "homogeneous": HOMOGENEOUS, "dense": HETEROGENEOUS}
    for network in settings.networks:
        write_table(
            folder / f"nodes_{network}.csv",
            pieces.rows(f"nodes_{network}", partial(measure_nodes, network, settings.lanczos_steps, seed)),
        )
        measured = eigenvalues_of_nodes(folder / f"nodes_{network}.csv", settings.eigenvalues)
        cases[network] = conditioned(list(measured.values()), CONDITION_NUMBER)
    problems = {case: _draw(settings, case, blocks, seed) for case, blocks in cases.items()}
    write_table(folder / "constants.csv", [_constants(settings, case, drawn, seed) for case, drawn in problems.items()])
    rows: list[Row] = []
    jobs = list(product(cases, METHODS))
    for case, method in watch("quadratics", jobs, len(jobs)):
        rows += pieces.rows(f"{case}-{method}", partial(_measure, settings, case, method, problems[case], seed))
    write_table(folder / "iterations.csv", rows)
    draw_iterations(rows, folder / "iterations")


def _draw(settings: QuadraticsStudy, case: str, blocks: Blocks, seed: int) -> Quadratics:
    generator = torch.Generator().manual_seed(derive_seed(seed, f"quadratics {case}"))
    return draw_quadratics(blocks, settings.trials, generator, dense=case == "dense")


def _constants(settings: QuadraticsStudy, case: str, problems: Quadratics, seed: int) -> Row:
    """κ(H), the largest κ of a block, and r, here κ(D^(−1/2) H D^(−1/2))/max κ with D = diag|g₀|."""
    of_blocks = torch.stack([condition_numbers(block) for block in problems.blocks()]).amax(0)
    root = problems.gradient(problems.start).abs().sqrt()
    preconditioned = condition_numbers(problems.hessian / (root.unsqueeze(1) * root.unsqueeze(2)))
    r = (preconditioned / of_blocks).numpy()
    samples = resampled(r, _quantiles, settings.resamples, derive_seed(seed, "bootstrap r"))["median"]
    return {
        "case": case,
        "size": problems.start.shape[1],
        "blocks": len(problems.sizes),
        "kappa": float(condition_numbers(problems.hessian).median()),
        "largest_block_kappa": float(of_blocks.median()),
        "r_median": float(np.median(r)),
        "r_ci_low": float(ends(samples)[0]),
        "r_ci_high": float(ends(samples)[1]),
        "share_of_r_within_bound": float((r <= BOUND_OF_R).mean()),
    }


def _measure(settings: QuadraticsStudy, case: str, method: str, problems: Quadratics, seed: int) -> list[Row]:
    """The one row of a case and a method: its best setting."""
    tuned = METHODS[method](problems, Budget(settings.tolerance, settings.most))
    best = int(np.argmin(_quantiles(tuned.needed)["median"]))
    needed = tuned.needed[best]
    samples = resampled(needed, _quantiles, settings.resamples, derive_seed(seed, f"bootstrap {method}"))
    low, high = ends(samples["median"])
    chosen = {name: tuned.settings[best].get(name) for name in ("lr", "lr_fraction", "momentum", "clip")}
    spread = {"ci_low": float(low), "ci_high": float(high), "reached": float(np.isfinite(needed).mean())}
    tried = {"settings": len(tuned.settings), "at_edge": tuned.is_at_edge(best), "trials": settings.trials}
    return [{"case": case, "method": method} | _quantiles(needed) | spread | chosen | tried]


def _quantiles(needed: Array) -> dict[str, Array]:
    """Quantiles over the last axis; each is one of the values, so that one may be infinite."""
    names = {"quantile_10": 0.1, "median": 0.5, "quantile_90": 0.9}
    values = np.quantile(needed, list(names.values()), axis=-1, method="higher")
    return dict(zip(names, values, strict=True))
