"""How long a spectrum of the full Hessian takes here, in hessian-eigenthings and in curvlinops.

    OMP_NUM_THREADS=1 python scripts/bench_hessian_libraries.py

The model and the batches are those of bench_hessian.py; every library takes the same number of Lanczos steps
from as many probes. They take turns, and times are seconds of processor time of one thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import curvlinops
import hessian_eigenthings
import torch
from bench import Clock, Ratio, medians, record
from bench_hessian import tiny_gpt
from torch import Tensor, nn
from whyadam.hessian import HessianOperator, slq
from whyadam.tasks import Problem

STEPS, PROBES, ROUNDS = 30, 2, 5


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
    slq(operator.matvec, operator.size, steps=STEPS, probes=PROBES)


def eigenthings(problem: Problem, batches: list[Any]) -> None:
    """hessian-eigenthings, which takes a mean loss."""

    def mean_loss(model: nn.Module, batch: Any) -> Tensor:
        loss, count = problem.loss(model, batch)
        return loss / count

    operator = hessian_eigenthings.HessianOperator(problem.model, batches, mean_loss)
    hessian_eigenthings.spectral_density(operator, num_runs=PROBES, lanczos_steps=STEPS)


def curvature_operators(problem: Problem, batches: list[Any]) -> None:
    """curvlinops, told the ends of the spectrum so that it need not look for them."""
    model = Logits(problem.model)
    data = [(batch["input_ids"], batch["labels"].flatten()) for batch in batches]
    operator = curvlinops.HessianLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), data, check_deterministic=False
    )
    curvlinops.lanczos_approximate_spectrum(operator, STEPS, num_repeats=PROBES, boundaries=(-5.0, 5.0))


def main() -> int:
    """Measure in turns and print; an exit code."""
    torch.set_num_threads(1)
    problem, batches, _ = tiny_gpt(n_embd=32, train_steps=0)
    problem.model.eval()
    libraries: dict[str, Callable[[Problem, list[Any]], None]] = {
        "whyadam": here,
        "hessian-eigenthings": eigenthings,
        "curvlinops": curvature_operators,
    }
    clock = Clock(torch.device("cpu"))
    work = {name: partial(spectrum, problem, batches) for name, spectrum in libraries.items()}
    seconds = medians(work, ROUNDS, clock)
    for name, taken in seconds.items():
        print(f"{name}: {taken:.2f} s for {STEPS} steps x {PROBES} probes")
    how = f"median of {ROUNDS} rounds, {clock.name}, 1 thread(s)"
    return record(
        *(
            Ratio(f"spectrum of the full Hessian: {name} / ours", seconds[name] / seconds["whyadam"], "≥ 1.0", how)
            for name in libraries
            if name != "whyadam"
        )
    )


if __name__ == "__main__":
    sys.exit(main())
