"""How fast, and how exact, Hessian spectra are, on a tiny GPT with 25 blocks.

    OMP_NUM_THREADS=1 python scripts/bench_hessian.py

First the spectrum of the full Hessian here, in hessian-eigenthings and in curvlinops, with the same Lanczos steps and
probes. Then the spectra of all blocks, by the published scheme and by ours, with errors as Jensen–Shannon distances to
all eigenvalues. Times are processor time of one thread, and what is compared takes turns, so that other work on the
machine matters little. It takes about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import mean
from typing import Any

import curvlinops
import hessian_eigenthings
import numpy as np
import torch
from bench import Clock, Ratio, medians, record
from torch import Tensor, nn
from whyadam.data import DATA
from whyadam.hessian import (
    PUBLISHED,
    RELATIVE,
    Block,
    Effort,
    HessianOperator,
    Spectrum,
    density,
    exact_spectrum,
    js_distance,
    measure_blocks,
    partition,
    slq,
    smoothing_grid,
)
from whyadam.hessian.spectrum import stack_probes
from whyadam.models import MODELS
from whyadam.tasks import TASKS, Problem, build_problem

STEPS, PROBES, GRID_POINTS = 100, 10, 50_000
"""Of the published scheme."""

TOGETHER = 16
"""Probes that share a Krylov space, and products that are computed at once, in ours."""

OURS = Effort(probes=TOGETHER, tolerance=0.015)

TURNS = 3
"""How often single savings are timed."""

FULL_STEPS, FULL_PROBES, FULL_ROUNDS = 30, 2, 5
"""Of the full Hessian, in each library."""


@dataclass
class Spent:
    """Processor time by what it was spent on."""

    seconds: dict[str, float] = field(default_factory=dict)

    def time(self, what: str, work: Callable[[], Any]) -> Any:
        """The result of the work; its time is added to what was spent on the same before."""
        start = time.process_time()
        result = work()
        self.seconds[what] = self.seconds.get(what, 0.0) + time.process_time() - start
        return result


def tiny_gpt(n_embd: int, train_steps: int) -> tuple[Problem, list[Any], list[Block]]:
    """A four-layer GPT on the embedded text, two batches of 8 × 32 characters, and its 25 weight matrices."""
    model = {"name": "gpt2_nano", "n_layer": 4, "n_embd": n_embd, "n_head": 4, "n_positions": 32, "attention": "eager"}
    problem = build_problem(
        MODELS["gpt2_nano"].model_validate(model | {"dropout": 0.0}),
        DATA["kjv"].model_validate({"name": "kjv", "tokenizer": "char", "block_size": 32}),
        TASKS["causal_lm"].model_validate({"name": "causal_lm"}),
        seed=0,
    )
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=1e-3)
    for step in range(train_steps):
        loss, count = problem.loss(problem.model, problem.train.batch([(0, 1000 + 16 * step + i) for i in range(16)]))
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    batches = [problem.train.batch([(0, 8 * number + i) for i in range(8)]) for number in range(2)]
    blocks = [block for block in partition(problem.model, "weights") if "wpe" not in block.name]
    return problem, batches, blocks


def published_probe(
    problem: Problem, batches: list[Any], blocks: list[Block], seed: int
) -> list[tuple[Tensor, Tensor]]:
    """Nodes and weights of every block from one probe, as in the published code.

    At each step the graph of the gradient is built once for all blocks; then each block takes a second backward to all
    parameters. Lanczos vectors are in float64 and not reorthogonalised.
    """
    generator = torch.Generator().manual_seed(seed)
    leaves = dict(problem.model.eval().named_parameters())
    current = [torch.randn(block.of(leaves).shape, generator=generator, dtype=torch.float64) for block in blocks]
    current = [vector / vector.norm() for vector in current]
    previous = [torch.zeros_like(vector) for vector in current]
    alphas, betas = torch.zeros(2, len(blocks), STEPS, dtype=torch.float64)
    for step in range(STEPS):
        products = [torch.zeros_like(vector) for vector in current]
        for batch in batches:
            gradients = gradients_with_graph(problem, leaves, batch)
            for block, vector, product in zip(blocks, current, products, strict=True):
                product += second_backward(gradients, leaves, block, vector, list(leaves)) / len(batches)
        for i, product in enumerate(products):
            alphas[i, step] = product @ current[i]
            rest = product - alphas[i, step] * current[i] - betas[i, step - 1] * previous[i]
            betas[i, step] = rest.norm()
            previous[i], current[i] = current[i], rest / betas[i, step]
    off_diagonal = torch.diag_embed(betas[:, :-1], 1)
    nodes, vectors = torch.linalg.eigh(torch.diag_embed(alphas) + off_diagonal + off_diagonal.mT)
    return list(zip(nodes, vectors[:, 0] ** 2, strict=True))


def gradients_with_graph(problem: Problem, leaves: dict[str, Tensor], batch: Any) -> dict[str, Tensor]:
    """The gradient of a batch's mean loss, ready to be differentiated again."""
    loss, count = problem.loss(problem.model, batch)
    return dict(zip(leaves, torch.autograd.grad(loss / count, list(leaves.values()), create_graph=True), strict=True))


def second_backward(
    gradients: dict[str, Tensor], leaves: dict[str, Tensor], block: Block, vector: Tensor, names: list[str]
) -> Tensor:
    """The block's entries of the gradient of g·v, computed for all parameters of ``names``."""
    (part,) = block.slices
    along = torch.zeros_like(leaves[part.parameter])
    part.of(along).copy_(vector.view_as(part.of(along)))
    products = torch.autograd.grad(
        gradients[part.parameter], [leaves[name] for name in names], along, retain_graph=True, allow_unused=True
    )
    return part.of(products[names.index(part.parameter)]).flatten().double()


def loop_smoothing(spectrum: Spectrum) -> list[float]:
    """A density as the published code computes it: one probe after another, one grid point after another."""
    grid = np.linspace(spectrum.smallest - 1, spectrum.largest + 1, GRID_POINTS)
    values = [0.0] * len(grid)
    for nodes, weights in zip(spectrum.nodes.numpy(), spectrum.weights.numpy(), strict=True):
        for i, point in enumerate(grid):
            gaussians = np.exp(-((point - nodes) ** 2) / (2 * PUBLISHED.value**2))
            values[i] += np.dot(weights, gaussians) / spectrum.probes
    return values


def measure_in_turns(
    problem: Problem, batches: list[Any], blocks: list[Block], clock: Spent
) -> tuple[dict[str, Spectrum], dict[str, Spectrum]]:
    """The published scheme probe by probe, and after each probe a tenth of our blocks; the times go to the clock."""
    measurement = measure_blocks(problem.model, problem.loss, batches, blocks, OURS, at_once=TOGETHER)
    rows: list[list[tuple[Tensor, Tensor]]] = []
    ours: dict[str, Spectrum] = {}
    for probe in range(PROBES):
        rows.append(clock.time("published", lambda p=probe: published_probe(problem, batches, blocks, p)))
        while len(ours) * PROBES < len(blocks) * (probe + 1):
            name, ours[name] = clock.time("ours", lambda: next(measurement))
        print(f"published: {probe + 1} of {PROBES} probes; ours: {len(ours)} of {len(blocks)} blocks", flush=True)
    published = {
        block.name: stack_probes([row[i] for row in rows], ours[block.name].size) for i, block in enumerate(blocks)
    }
    clock.time("loop smoothing of one block", lambda: loop_smoothing(published[blocks[0].name]))
    clock.time("our smoothing", lambda: [density(s, smoothing_grid(s, sigma=PUBLISHED)) for s in ours.values()])
    return published, ours


def all_eigenvalues(problem: Problem, batches: list[Any], blocks: list[Block]) -> dict[str, Spectrum]:
    """The truth, block by block."""
    spectra = {}
    for block in blocks:
        operator = HessianOperator(problem.model, problem.loss, batches, block)
        spectra[block.name] = exact_spectrum(operator.matmat, operator.size)
        print(f"all {operator.size} eigenvalues of {block.name}", flush=True)
    return spectra


def time_single_savings(problem: Problem, batches: list[Any], blocks: list[Block], clock: Spent) -> None:
    """One step of every block as published, and with one saving after another."""
    leaves = dict(problem.model.eval().named_parameters())
    vectors = [torch.ones(block.of(leaves).shape) for block in blocks]
    operators = [HessianOperator(problem.model, problem.loss, batches, block, at_once=TOGETHER) for block in blocks]

    def backward(graphs: list[dict[str, Tensor]], own: bool) -> None:
        for gradients in graphs:
            for block, vector in zip(blocks, vectors, strict=True):
                second_backward(gradients, leaves, block, vector, [block.slices[0].parameter] if own else list(leaves))

    for _ in range(TURNS):
        graphs = clock.time("graph", lambda: [gradients_with_graph(problem, leaves, batch) for batch in batches])
        clock.time("to all", lambda k=graphs: backward(k, own=False))
        clock.time("to the block", lambda k=graphs: backward(k, own=True))
        clock.time("kept", lambda: [operator.matmat(torch.ones(1, operator.size)) for operator in operators])
        clock.time("together", lambda: [operator.matmat(torch.ones(TOGETHER, operator.size)) for operator in operators])


def report(spectra: dict[str, dict[str, Spectrum]], clock: Spent) -> int:
    """Print the tables and record the ratios; an exit code."""
    seconds = clock.seconds
    smoothing = len(spectra["ours"]) * seconds["loop smoothing of one block"]
    published, ours = seconds["published"] + smoothing, seconds["ours"] + seconds["our smoothing"]
    print("\nErrors are the mean and the worst over blocks, smoothed with √1e-5 and with 1 % of the range.\n")
    print("| scheme | seconds | products per block | error, √1e-5 | error, 1 % |")
    print("|---|---|---|---|---|")
    mean_errors: dict[str, list[float]] = {}
    for scheme, total in (("published", published), ("ours", ours)):
        sizes = [s.nodes.numel() if scheme == "published" else s.nodes.shape[1] for s in spectra[scheme].values()]
        errors = [
            [js_distance(s, spectra["exact"][name], sigma=sigma) for name, s in spectra[scheme].items()]
            for sigma in (PUBLISHED, RELATIVE)
        ]
        mean_errors[scheme] = [mean(row) for row in errors]
        columns = " | ".join(f"{mean(row):.3f}, {max(row):.3f}" for row in errors)
        print(f"| {scheme} | {total:.1f} | {mean(sizes):.0f} | {columns} |")
    # The clock has TURNS steps of what was timed singly; the published scheme takes this many times as many.
    times = STEPS * PROBES / TURNS
    print(f"\n{published / ours:.1f} times as fast. Where the factor comes from, one saving after another:\n")
    print("| | seconds | factor |\n|---|---|---|")
    stages = {
        "published scheme": published,
        "densities without a loop": seconds["published"] + seconds["our smoothing"],
        "second backward to the block alone": times * (seconds["graph"] + seconds["to the block"]),
        "graph of the block's gradient kept": times * seconds["kept"],
        f"{TOGETHER} products at once": times * seconds["together"] / TOGETHER,
        "one Krylov space for all probes, stop at the tolerance": ours,
    }
    before = published
    for stage, total in stages.items():
        print(f"| {stage} | {total:.1f} | {before / total:.2f} |")
        before = total
    how = f"{len(spectra['ours'])} blocks, in turns, processor time, 1 thread(s)"
    print()
    return record(
        Ratio("block spectra: published scheme / ours", published / ours, "≥ 5.0", how),
        *(
            Ratio(f"their mean error, {sigma}: ours / published", our / their, "≤ 1.0", "against all eigenvalues")
            for sigma, our, their in zip(("√1e-5", "1 %"), mean_errors["ours"], mean_errors["published"], strict=True)
        ),
    )


class Logits(nn.Module):
    """The model as curvlinops calls it: from tokens to one row of logits each."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits ``[tokens, vocabulary]``."""
        return self.model(input_ids=input_ids).logits.flatten(0, 1)


def here(problem: Problem, batches: list[Any]) -> None:
    """Ours."""
    operator = HessianOperator(problem.model, problem.loss, batches)
    slq(operator.matvec, operator.size, steps=FULL_STEPS, probes=FULL_PROBES)


def eigenthings(problem: Problem, batches: list[Any]) -> None:
    """hessian-eigenthings, which takes a mean loss."""

    def mean_loss(model: nn.Module, batch: Any) -> Tensor:
        loss, count = problem.loss(model, batch)
        return loss / count

    operator = hessian_eigenthings.HessianOperator(problem.model, batches, mean_loss)
    hessian_eigenthings.spectral_density(operator, num_runs=FULL_PROBES, lanczos_steps=FULL_STEPS)


def curvature_operators(problem: Problem, batches: list[Any]) -> None:
    """curvlinops, told the ends of the spectrum so that it need not look for them."""
    model = Logits(problem.model)
    data = [(batch["input_ids"], batch["labels"].flatten()) for batch in batches]
    operator = curvlinops.HessianLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), data, check_deterministic=False
    )
    curvlinops.lanczos_approximate_spectrum(operator, FULL_STEPS, num_repeats=FULL_PROBES, boundaries=(-5.0, 5.0))


def compare_libraries(problem: Problem, batches: list[Any]) -> int:
    """Time the spectrum of the full Hessian in each library; an exit code."""
    problem.model.eval()
    libraries: dict[str, Callable[[Problem, list[Any]], None]] = {
        "whyadam": here,
        "hessian-eigenthings": eigenthings,
        "curvlinops": curvature_operators,
    }
    clock = Clock(torch.device("cpu"))
    work = {name: partial(spectrum, problem, batches) for name, spectrum in libraries.items()}
    seconds = medians(work, FULL_ROUNDS, clock)
    for name, taken in seconds.items():
        print(f"{name}: {taken:.2f} s for {FULL_STEPS} steps x {FULL_PROBES} probes")
    how = f"median of {FULL_ROUNDS} rounds, {clock.name}, 1 thread(s)"
    return record(
        *(
            Ratio(f"spectrum of the full Hessian: {name} / ours", seconds[name] / seconds["whyadam"], "≥ 1.0", how)
            for name in libraries
            if name != "whyadam"
        )
    )


def main() -> int:
    """Measure and print; an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32, help="n_embd of the GPT; all eigenvalues take long beyond 48")
    parser.add_argument("--train-steps", type=int, default=0, help="steps of Adam before the measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    problem, batches, blocks = tiny_gpt(arguments.width, arguments.train_steps)
    missed = compare_libraries(problem, batches)
    clock = Spent()
    time_single_savings(problem, batches, blocks, clock)
    published, ours = measure_in_turns(problem, batches, blocks, clock)
    spectra = {"published": published, "ours": ours, "exact": all_eigenvalues(problem, batches, blocks)}
    return max(missed, report(spectra, clock))


if __name__ == "__main__":
    sys.exit(main())
