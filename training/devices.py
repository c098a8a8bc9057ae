"""Where a run computes, and in which number format.

Training through ``torch.compile``; everything else uses the model as it is.

Activations that are computed twice instead of kept.
"""

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


@dataclass(frozen=True)
class CompiledProblem(Problem):
    """A problem whose loss is compiled; model and task, and so the weights and their names, are the same objects."""

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
        # Sizes that are symbols from the start: what is compiled, and so each rounding, depends on no earlier batch.
        return torch.compile(self.task.loss, dynamic=True)


@contextmanager
def activation_checkpointing(model: nn.Module) -> Iterator[None]:
    """Within this block, a transformer's blocks keep their input alone and compute the rest again going backward.

    Dropout draws the same the second time, so losses and gradients stay as they are. Outside, the model is as it was:
    gradients of single examples and second derivatives do not pass through recomputation.

    Raises:
        UserError: the model is none of transformers', or one that cannot do it.
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
        # Switching on lets the embeddings' output require gradients, which switching off leaves as it is.
        model.disable_input_require_grads()  # type: ignore[operator]


def _switch(model: nn.Module, direction: str, *arguments: object) -> None:
    """Newer versions of transformers say activation where older ones said gradient."""
    old: Callable[..., None] = getattr(model, f"gradient_checkpointing_{direction}")
    getattr(model, f"activation_checkpointing_{direction}", old)(*arguments)
