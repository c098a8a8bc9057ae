"""Where and how a run computes: device, number format, memory, ``torch.compile``, activation checkpointing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..tasks.base import Batch
from ..tasks.problem import Problem


def choose_device(name: str) -> torch.device:
    """The device of a config's ``training.device``; ``auto`` is a GPU where there is one.

    Raises:
        UserError: the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:  # an index beyond those that torch can read
        raise UserError(f"training.device: {name} is not there; auto takes what there is") from None
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[device.type]
    if not there or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise UserError(f"training.device: {name} is not there; auto takes what there is")
    return device


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The forward pass's number format: bfloat16 where torch has a kernel for it, or float32 throughout."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch's tensors on ``device``; copies from pinned memory are asynchronous."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }


def reset_peak_memory(device: torch.device) -> None:
    """Reset ``peak_memory_mib`` where the device can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mib(device: torch.device) -> float | None:
    """Peak memory in MiB.

    On a GPU that of tensors since ``reset_peak_memory``. Elsewhere the resident memory of the process since it started,
    with Python, libraries and data; None on Windows.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return None
    from resource import RUSAGE_SELF, getrusage

    units_per_mib = 2**20 if sys.platform == "darwin" else 2**10
    return getrusage(RUSAGE_SELF).ru_maxrss / units_per_mib


@dataclass(frozen=True)
class CompiledProblem(Problem):
    """A problem whose loss is compiled; model, task and parameter names are the same objects."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss summed over the batch's terms, in nats, and their number.

        Raises:
            UserError: it cannot be compiled, for instance because there is no C++ compiler.
        """
        try:
            return self._compiled_loss(model, batch)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(f"training.compile: torch.compile fails, set it to false: {reason}") from error

    @cached_property
    def _compiled_loss(self) -> Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]:
        # Symbolic sizes from the start: the compiled code, and so each rounding, depends on no earlier batch.
        return torch.compile(self.task.loss, dynamic=True)


@contextmanager
def activation_checkpointing(model: nn.Module) -> Iterator[None]:
    """Within this context a transformer's layers keep their input alone and recompute activations in backward.

    Dropout masks, losses and gradients stay the same. Outside, the model is unchanged: per-example gradients and second
    derivatives do not pass through recomputation.

    Raises:
        UserError: the model is not from transformers, or cannot do it.
    """
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise UserError(
            f"training.activation_checkpointing: {type(model).__name__} cannot do it; GPT2 and BERT of transformers can"
        )
    _switch(model, "enable", {"use_reentrant": False})
    try:
        yield
    finally:
        _switch(model, "disable")
        # Enabling makes the embeddings' output require gradients, which disabling leaves as it is.
        model.disable_input_require_grads()  # type: ignore[operator]


def _switch(model: nn.Module, direction: str, *arguments: object) -> None:
    """Newer versions of transformers say activation where older ones said gradient."""
    old: Callable[..., None] = getattr(model, f"gradient_checkpointing_{direction}")
    getattr(model, f"activation_checkpointing_{direction}", old)(*arguments)
