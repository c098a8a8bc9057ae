"""Activations that are computed twice instead of kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from ..errors import UserError


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
