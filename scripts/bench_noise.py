"""What measuring gradient noise costs on the quick BERT: `make bench`, on a machine that is otherwise idle.

It compares N noise samples with N plain gradients of the same batches, the peak memory for few and many samples, and
single-example gradients by vmap with a loop. Each answer comes from its own process, set up as the `whyadam` command
is, for each number of threads. Exits with 1 if a ratio misses its limit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import torch
from bench import Clock, Ratio, medians, record, run_with_threads, threads_in_words
from torch import Tensor, nn
from whyadam.configs.load import load_experiment
from whyadam.memory import keep_freed_memory
from whyadam.noise.gradients import batch_noise, example_gradients, looped_example_gradients, reference_gradient
from whyadam.noise.measure import NoiseDraw
from whyadam.noise.settings import NoiseSettings
from whyadam.noise.sketch import Reduction
from whyadam.tasks import Batch, build_problem
from whyadam.tasks.gradients import mean_gradient, trained_parameters
from whyadam.training.devices import choose_device, to_device

CONFIG = Path(__file__).parents[1] / "configs" / "quick" / "bert_nano_kjv.yaml"
LONG = ("data.block_size=128", "data.vocab_size=4096")
FEW, MANY = 4, 16
"""Noise samples."""
BATCH_SIZE = 32


class Bench:
    """The quick BERT, or one with longer contexts, and the batches of a noise measurement."""

    def __init__(self, device: torch.device, overrides: Sequence[str] = ()) -> None:
        experiment = load_experiment(CONFIG, overrides)
        self.device = device
        self.problem = build_problem(experiment.model, experiment.data, experiment.task, 0, device)
        self.model = self.problem.model.train()
        self.draw = NoiseDraw(self.problem.train, BATCH_SIZE, None, seed=0)
        self.reference = reference_gradient(self.model, self.loss, self.draw.reference(2))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The problem's loss on the device."""
        return self.problem.loss(model, to_device(batch, self.device))

    def take_gradients(self, count: int) -> None:
        """Compute and discard plain gradients of mini-batches."""
        for micro_batches in self.draw.mini_batches(count):
            mean_gradient(self.model, self.loss, micro_batches)

    def take_noise(self, count: int) -> None:
        """Do what a measurement does with the same mini-batches, without the statistics."""
        reduction = Reduction(trained_parameters(self.model), NoiseSettings().coordinates, seed=0)
        reduction.reduce(batch_noise(self.model, self.loss, self.draw.mini_batches(count), self.reference))

    def seconds_of_examples(self, rounds: int, clock: Clock) -> dict[str, float]:
        """Median seconds of a batch's example gradients by loop and by vmap, and of their mean alone."""
        self.model.eval()
        (examples,) = self.draw.single_examples(BATCH_SIZE, BATCH_SIZE)
        return medians(
            {
                "loop": lambda: looped_example_gradients(self.model, self.loss, examples),
                "vmap": lambda: example_gradients(self.model, self.loss, examples),
                "their mean alone": lambda: mean_gradient(self.model, self.loss, [examples]),
            },
            rounds,
            clock,
        )


def peak_mebibytes(device: torch.device, count: int) -> float:
    """Peak memory of ``count`` noise samples: of the GPU, or of this process, which must do nothing else."""
    Bench(device).take_noise(count)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return getrusage(RUSAGE_SELF).ru_maxrss / 2**10


def compare(device: torch.device, rounds: int) -> int:
    """Record the ratios of durations; an exit code."""
    clock = Clock(device)
    where = threads_in_words(device)
    how = f"median of {rounds} rounds, {clock.name}"
    bench = Bench(device)
    batches = {"plain": lambda: bench.take_gradients(MANY), "noise": lambda: bench.take_noise(MANY)}
    of_batches = medians(batches, rounds, clock)
    cost = of_batches["noise"] / of_batches["plain"]
    ratios = [Ratio(f"{MANY} noise samples / plain gradients, {where}", cost, "≤ 1.25", how)]
    for length, overrides, asked in (("", (), "≥ 3.0"), (", contexts of 128", LONG, "")):
        seconds = Bench(device, overrides).seconds_of_examples(rounds, clock)
        for name, taken in seconds.items():
            print(f"single-example gradients{length}, {where}, {name}: {1e3 * taken / BATCH_SIZE:.1f} ms per example")
        what = f"single-example gradients{length}: loop"
        ratios += [
            Ratio(f"{what} / vmap, {where}", seconds["loop"] / seconds["vmap"], asked, how),
            Ratio(f"{what} / their mean alone, {where}", seconds["loop"] / seconds["their mean alone"], "", how),
        ]
    return record(*ratios)


def main() -> int:
    """Run a process for each answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    if arguments.peak_of or arguments.alone:
        keep_freed_memory()
    if arguments.peak_of:
        print(peak_mebibytes(device, arguments.peak_of))
        return 0
    if arguments.alone:
        return compare(device, arguments.rounds)

    # Torch reads this on import, so a process cannot set it for itself.
    environment = {"THP_MEM_ALLOC_ENABLE": "1"}
    command = [sys.executable, __file__, "--device", arguments.device, "--rounds", str(arguments.rounds)]

    def peak(count: int) -> float:
        asked = [*command, "--peak-of", str(count)]
        return float(
            subprocess.run(asked, env=os.environ | environment, check=True, capture_output=True, text=True).stdout
        )

    few, many = peak(FEW), peak(MANY)
    print(f"peak memory: {few:.0f} MiB for {FEW} samples, {many:.0f} MiB for {MANY}", flush=True)
    missed = record(Ratio(f"peak memory of {MANY} noise samples / of {FEW}", many / few, "≤ 1.05", "once"))
    threads = [1] if device.type == "cuda" else arguments.threads
    return max(missed, run_with_threads([*command, "--alone"], threads, **environment))


if __name__ == "__main__":
    sys.exit(main())
