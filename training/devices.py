"""Where a run computes, and in which number format."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext

import torch

from ..errors import UserError
from ..tasks.settings import Batch


def choose_device(name: str) -> torch.device:
    """The device of a config's ``training.device``; ``auto`` is a GPU where there is one.

    Raises:
        UserError: the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[device.type]
    if not there or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise UserError(f"training.device: {name} is not there; auto takes what there is")
    return device


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The forward pass's number format: bfloat16 where torch has a kernel for it, or float32 throughout."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch's tensors on ``device``; a copy from pinned memory does not wait."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }


def forget_peak_memory(device: torch.device) -> None:
    """Begin ``peak_memory_mib`` anew, as far as the device can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mib(device: torch.device) -> float | None:
    """The most memory in use so far, in MiB.

    On a GPU it is what tensors took since ``forget_peak_memory``. Elsewhere it is the resident memory of the whole
    process since it started, with Python, libraries and data; None on Windows, which does not tell it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return None
    from resource import RUSAGE_SELF, getrusage

    units_per_mib = 2**20 if sys.platform == "darwin" else 2**10
    return getrusage(RUSAGE_SELF).ru_maxrss / units_per_mib
