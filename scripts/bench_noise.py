"""What measuring gradient noise costs on the quick BERT: `make bench`, on a machine that is otherwise idle.

How much longer do N noise samples take than N plain gradients of the same batches? Does the peak memory grow with N?
How much faster are single-example gradients all at once than one at a time? Exits with 1 if an answer is bad.
"""

from __future__ import annotations

import argparse
import sys
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import torch
from benching import Clock, Ratio, medians, record
from torch import Tensor, nn
from whyadam.configs.load import load_experiment
from whyadam.noise.drawing import NoiseDraw
from whyadam.noise.gradients import batch_noise, mean_gradient, reference_gradient, trained_parameters
from whyadam.noise.reduction import Reduction
from whyadam.noise.settings import NoiseSettings
from whyadam.noise.single_examples import example_gradients, looped_example_gradients
from whyadam.tasks import Batch, build_problem
from whyadam.training.devices import choose_device, to_device

CONFIG = Path(__file__).parents[1] / "configs" / "quick" / "bert_nano_kjv.yaml"


class Bench:
    """The quick BERT and the batches of a noise measurement."""

    def __init__(self, device: torch.device, batch_size: int) -> None:
        experiment = load_experiment(CONFIG)
        self.device = device
        self.problem = build_problem(experiment.model, experiment.data, experiment.task, 0, device)
        self.model = self.problem.model.train()
        self.draw = NoiseDraw(self.problem.train, batch_size, None, seed=0)
        self.reference = reference_gradient(self.model, self.loss, self.draw.reference(2))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The problem's loss on the device."""
        return self.problem.loss(model, to_device(batch, self.device))

    def take_gradients(self, count: int) -> None:
        """Plain gradients of mini-batches, each thrown away."""
        for micro_batches in self.draw.mini_batches(count):
            mean_gradient(self.model, self.loss, micro_batches)

    def take_noise(self, count: int) -> None:
        """What a measurement does with the same mini-batches, up to the statistics."""
        reduction = Reduction(trained_parameters(self.model), NoiseSettings().coordinates, seed=0)
        reduction.reduce(batch_noise(self.model, self.loss, self.draw.mini_batches(count), self.reference))

    def peak_mebibytes(self, count: int) -> float:
        """Peak memory of ``count`` noise samples: of the GPU, or of a process that does nothing else."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.take_noise(count)
            return torch.cuda.max_memory_allocated() / 2**20
        context = get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=self._send_peak, args=(count, sender))
        child.start()
        peak: int = receiver.recv()
        child.join()
        return peak / 2**10

    def _send_peak(self, count: int, sender: Connection) -> None:
        self.take_noise(count)
        sender.send(getrusage(RUSAGE_SELF).ru_maxrss)


def main() -> int:
    """Print the answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    device, samples = choose_device(arguments.device), arguments.samples
    bench = Bench(device, arguments.batch_size)

    few, many = (bench.peak_mebibytes(count) for count in (samples // 4, samples))
    print(f"peak memory: {few:.0f} MiB for {samples // 4} samples, {many:.0f} MiB for {samples}")

    clock = Clock(device)
    how = f"median of {arguments.rounds} rounds, {clock.name}, {torch.get_num_threads()} thread(s)"
    batches = {"plain": lambda: bench.take_gradients(samples), "noise": lambda: bench.take_noise(samples)}
    of_batches = medians(batches, arguments.rounds, clock)

    bench.model.eval()
    (examples,) = bench.draw.single_examples(arguments.batch_size, arguments.batch_size)
    single = {
        "loop": lambda: looped_example_gradients(bench.model, bench.loss, examples),
        "at once": lambda: example_gradients(bench.model, bench.loss, examples),
        "mean": lambda: mean_gradient(bench.model, bench.loss, [examples]),
    }
    of_examples = medians(single, arguments.rounds, clock)
    for name, seconds in of_examples.items():
        print(f"single-example gradients, {name}: {1e3 * seconds / arguments.batch_size:.1f} ms an example")
    return record(
        Ratio(f"{samples} noise samples / plain gradients", of_batches["noise"] / of_batches["plain"], "≤ 1.25", how),
        Ratio(f"peak memory of {samples} noise samples / of {samples // 4}", many / few, "≤ 1.05", "once"),
        Ratio("single-example gradients: loop / vmap", of_examples["loop"] / of_examples["at once"], "≥ 3.0", how),
        Ratio("the same: loop / their mean alone", of_examples["loop"] / of_examples["mean"], "", how),
    )


if __name__ == "__main__":
    sys.exit(main())
