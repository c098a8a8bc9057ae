"""What an optimizer step costs on the parameters of GPT2-nano (13.9 million): `make bench`.

Ours, as they are and with fused=True, against torch's fused AdamW and fused SGD with momentum, and against torch's
AdamW as it is, in alternation in one process; a process for each number of threads. With one thread processor time
counts, which other programs do not disturb, with more of them wall time. Exits with 1 if a rule is slower than it
should be.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from whyadam.models.gpt2 import GPT2Nano
from whyadam.models.settings import Head
from whyadam.optimizers import ACClip, CClip, GClip

VOCABULARY = 8192
BASELINES = ("AdamW", "AdamW fused", "SGD fused")

MOST = {
    "ACClip fused": ("AdamW fused", 0.95),
    "CClip fused": ("SGD fused", 1.0),
    "GClip fused": ("SGD fused", 1.25),
    "ACClip": ("AdamW", 1.0),
    "ACClip-RMS": ("AdamW", 1.0),
    "CClip": ("AdamW", 1.0),
    "GClip": ("AdamW", 1.0),
}
"""What a step may cost, as a multiple of a step of torch's."""


def optimizers(device: str) -> dict[str, Optimizer]:
    """Each with parameters of its own, and gradients that stay."""
    with torch.device("meta"):
        shapes = [parameter.shape for parameter in GPT2Nano().build(Head("causal_lm", VOCABULARY)).parameters()]

    def parameters() -> list[nn.Parameter]:
        tensors = [nn.Parameter(0.02 * torch.randn(shape, device=device)) for shape in shapes]
        for tensor in tensors:
            tensor.grad = 0.01 * torch.randn_like(tensor)
        return tensors

    built: dict[str, Optimizer] = {
        "AdamW": AdamW(parameters()),
        "AdamW fused": AdamW(parameters(), fused=True),
        "SGD fused": SGD(parameters(), lr=1e-3, momentum=0.9, fused=True),
    }
    for suffix, fused in (("", None), (" fused", True)):
        built[f"ACClip{suffix}"] = ACClip(parameters(), fused=fused)
        built[f"ACClip-RMS{suffix}"] = ACClip(parameters(), alpha=2.0, second_moment=True, fused=fused)
        built[f"CClip{suffix}"] = CClip(parameters(), lr=1e-3, clip=0.01, momentum=0.9, fused=fused)
        built[f"GClip{suffix}"] = GClip(parameters(), lr=1e-3, clip=1.0, momentum=0.9, fused=fused)
    return built


def milliseconds(device: str, repeats: int) -> dict[str, float]:
    """The median time of a step of each, after two to warm up."""
    alone = device == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    durations: dict[str, list[float]] = {}
    built = optimizers(device)
    for _ in range(repeats + 2):
        for name, optimizer in built.items():
            durations.setdefault(name, []).append(1e3 * seconds(optimizer, clock, device))
    return {name: statistics.median(values[2:]) for name, values in durations.items()}


def seconds(optimizer: Optimizer, clock: Callable[[], float], device: str) -> float:
    """Of one step, all work of the device done."""
    start = clock()
    optimizer.step()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def compare(device: str, repeats: int) -> bool:
    """Print one table; whether every rule is fast enough."""
    times = milliseconds(device, repeats)
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} thread(s)"
    print(f"\n{where}, medians of {repeats} steps\n")
    print("| optimizer | ms a step | " + " | ".join(f"of {name}" for name in BASELINES) + " | at most |")
    print("|---|---|---|---|---|---|")
    missed = []
    for name, taken in times.items():
        ratios = " | ".join(f"{taken / times[baseline]:.2f}" for baseline in BASELINES)
        baseline, most = MOST.get(name, ("", 0.0))
        print(f"| {name} | {taken:.2f} | {ratios} | {f'{most:.2f} of {baseline}' if baseline else ''} |")
        if baseline and taken > most * times[baseline]:
            missed.append(name)
    print(f"\nslower than they should be: {', '.join(missed) or 'none'}", flush=True)
    return not missed


def main() -> int:
    """Print the tables, from a process for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone or arguments.device == "cuda":
        return int(not compare(arguments.device, arguments.repeats))
    print(f"{platform.machine()}, {os.cpu_count()} processor(s), torch {torch.__version__}", flush=True)
    command = [sys.executable, __file__, "--alone", "--repeats", str(arguments.repeats)]
    endings = [
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, check=False).returncode
        for threads in arguments.threads
    ]
    return int(any(endings))


if __name__ == "__main__":
    sys.exit(main())
