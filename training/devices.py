"""Where a run computes, and in which number format."""

from __future__ import annotations

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
