"""What an optimizer step costs on the parameters of GPT2-nano (13.9 million): `make bench`.

Ours, as they are and with fused=True, against torch's fused AdamW and fused SGD with momentum, and against torch's
AdamW, interleaved in one process; a process for each number of threads. Exits with 1 if a rule misses its limit.
"""

from __future__ import annotations

import argparse
import sys

import torch
from bench import Clock, Ratio, medians, record, run_with_threads, threads_in_words
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from whyadam.models.base import Head
from whyadam.models.gpt2 import GPT2Nano
from whyadam.optimizers import ACClip, CClip, GClip

VOCABULARY = 8192
BASELINES = ("AdamW", "AdamW fused", "SGD fused")

ASKED = {
    "ACClip fused": ("AdamW fused", "≤ 0.95"),
    "CClip fused": ("SGD fused", "≤ 1.0"),
    "GClip fused": ("SGD fused", "≤ 1.25"),
    "ACClip": ("AdamW", "≤ 1.0"),
    "ACClip-RMS": ("AdamW", "≤ 1.0"),
    "CClip": ("AdamW", "≤ 1.0"),
    "GClip": ("AdamW", "≤ 1.0"),
}
"""The most that a step may cost, as a multiple of a step of torch's."""


def optimizers(device: torch.device) -> dict[str, Optimizer]:
    """Each with its own parameters and fixed gradients."""
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


def compare(device: torch.device, repeats: int) -> int:
    """Print one table and record the ratios; an exit code."""
    clock = Clock(device)
    steps = {name: optimizer.step for name, optimizer in optimizers(device).items()}
    times = medians(steps, repeats, clock)
    where = threads_in_words(device)
    how = f"median of {repeats} steps, {clock.name}"
    print(f"\n{where}, {how}\n")
    print("| optimizer | ms per step | " + " | ".join(f"of {name}" for name in BASELINES) + " |")
    print("|---|---|---|---|---|")
    for name, taken in times.items():
        ratios = " | ".join(f"{taken / times[baseline]:.2f}" for baseline in BASELINES)
        print(f"| {name} | {1e3 * taken:.2f} | {ratios} |")
    print(flush=True)
    return record(
        *(
            Ratio(f"step of {name} / {baseline}, {where}", times[name] / times[baseline], asked, how)
            for name, (baseline, asked) in ASKED.items()
        )
    )


def main() -> int:
    """Run a process for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone or arguments.device == "cuda":
        return compare(torch.device(arguments.device), arguments.repeats)
    command = [sys.executable, __file__, "--alone", "--repeats", str(arguments.repeats)]
    return run_with_threads(command, arguments.threads)


if __name__ == "__main__":
    sys.exit(main())
