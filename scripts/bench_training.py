"""Tokens per second of our training loop, a loop written by hand and the Trainer of transformers: `make bench`.

All train the quick GPT2-nano and BERT-nano with the same loss, batches and optimizer, in turns, each in a process of
its own. Ours logs as `whyadam train` does; what it spends on evaluating and saving is left out, as the others do
neither. Exits with 1 if ours is slower than it should be.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
from typing import Any, ClassVar

import torch
from benching import Ratio, record
from training_loops import Loops
from whyadam.memory import keep_freed_memory
from whyadam.training.devices import choose_device

STEPS = {"gpt2_nano_kjv.yaml": 20, "bert_nano_kjv.yaml": 80}
"""Of one round, about five seconds, so that what a loop does once, before its first step, hardly counts."""


class LoopInItsProcess:
    """One of the loops, in a process that is set up as its users have it: `whyadam` keeps freed memory at hand."""

    _loops: ClassVar[Loops]

    def __init__(self, name: str, *arguments: Any) -> None:
        self._name = name
        is_whyadam = name.startswith("ours")
        # Torch reads it once, when it is imported, which in the new process is before it is told what to do.
        os.environ["THP_MEM_ALLOC_ENABLE"] = str(int(is_whyadam))
        context = multiprocessing.get_context("spawn")
        self._pool = context.Pool(1, initializer=self._begin, initargs=(is_whyadam, *arguments))

    def seconds(self) -> float:
        """Of all steps, once more."""
        return float(self._pool.apply(self._run, (self._name,)))

    def describe(self) -> tuple[int, str]:
        """Tokens in all steps together, and the clock."""
        described: tuple[int, str] = self._pool.apply(self._describe)
        return described

    def end(self) -> None:
        """Let go of the process."""
        self._pool.close()
        self._pool.join()

    @classmethod
    def _begin(cls, is_whyadam: bool, threads: int, *arguments: Any) -> None:
        if is_whyadam:
            keep_freed_memory()
        torch.set_num_threads(threads)
        cls._loops = Loops(*arguments)

    @classmethod
    def _run(cls, name: str) -> float:
        loops = cls._loops
        run = {"bare": loops.bare, "Trainer": loops.trainer, "ours": loops.ours}
        return run[name]() if name in run else loops.ours(compiled=True)

    @classmethod
    def _describe(cls) -> tuple[int, str]:
        return cls._loops.tokens(), cls._loops.clock.name


def measure(config: str, steps: int, rounds: int, device: torch.device, *, compiled: bool) -> int:
    """Print one table and record the ratios; an exit code."""
    names = ["bare", "ours", "Trainer"] + ["ours, compiled"] * compiled
    threads = torch.get_num_threads()
    loops = {name: LoopInItsProcess(name, threads, config, steps, device) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds + 1):
        for name, loop in loops.items():
            seconds[name].append(loop.seconds())
    tokens, clock = loops["bare"].describe()
    for loop in loops.values():
        loop.end()
    speeds = {name: tokens / statistics.median(values[1:]) for name, values in seconds.items()}
    how = f"median of {rounds} rounds of {steps} steps, a process each, {clock}, {threads} thread(s)"
    print(f"\n{config}: {how}\n| loop | tokens per second |\n|---|---|")
    for name, speed in speeds.items():
        print(f"| {name} | {speed:,.0f} |")
    name = config.removesuffix("_kjv.yaml")
    wanted = [("ours", "bare", "≥ 0.98"), ("ours", "Trainer", "≥ 1.0"), ("ours, compiled", "bare", "≥ 1.2")]
    return record(
        *(
            Ratio(f"tokens per second, {name}: {fast} / {slow}", speeds[fast] / speeds[slow], asked, how)
            for fast, slow, asked in wanted
            if fast in speeds
        )
    )


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    endings = [
        measure(config, steps, arguments.rounds, device, compiled=not arguments.no_compile)
        for config, steps in STEPS.items()
    ]
    return max(endings)


if __name__ == "__main__":
    sys.exit(main())
