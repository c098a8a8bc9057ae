"""Evaluating a loss so that it can be differentiated twice, without leaving a trace in the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import UserError

Loss = Callable[[nn.Module, Any], tuple[Tensor, Tensor | float]]
"""From a model and a batch to the summed loss and the number of its terms."""


def loss_at(model: nn.Module, loss_fn: Loss, batch: Any, values: Mapping[str, Tensor]) -> tuple[Tensor, float]:
    """The summed loss of a batch and the number of its terms, with other values in place of the model's parameters.

    The model computes in evaluation mode, without dropout. Fused attention has no second derivative, so torch's is
    replaced by the plain computation of the same thing.

    Args:
        model: left as it was found.
        loss_fn: must call the model that it is given.
        batch: what ``loss_fn`` understands.
        values: by the names of ``named_parameters``; gradients flow to them.

    Raises:
        NoFiniteLossError: the loss is no finite number.
    """
    called = _Called(model, loss_fn)
    inside = {f"model.{name}": value for name, value in values.items()}
    with evaluating(model), sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        loss, count = functional_call(called, inside, (batch,))
    if not torch.isfinite(loss):
        raise NoFiniteLossError(f"the loss of a batch is {float(loss)}: there is no curvature to measure here")
    return loss, float(count)


class NoFiniteLossError(UserError, FloatingPointError):
    """The loss is infinite or no number, so there is no curvature."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, whatever mode each module was in outside."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def refusing_clearly() -> Iterator[None]:
    """Say in one line that an operation has no second derivative.

    Raises:
        UserError: torch said so inside.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if "derivative" not in reason and "differentiat" not in reason:
            raise
        raise UserError(
            f"an operation of the model has no second derivative ({reason}); "
            'attention must be computed plainly, in transformers with attn_implementation="eager"'
        ) from error


def refuse_single_derivatives(gradients: Iterable[Tensor]) -> None:
    """Refuse gradients that went through an operation marked as once differentiable.

    Torch would leave that operation out of the derivatives with respect to chosen parameters, and not say so.

    Args:
        gradients: with the graphs that lead to them.

    Raises:
        UserError: such an operation is in a graph.
    """
    nodes = [gradient.grad_fn for gradient in gradients if gradient.grad_fn is not None]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if node.name() == "torch::autograd::Error":
            raise UserError("an operation of the model is marked as differentiable only once: it has no curvature")
        following = {earlier for earlier, _ in node.next_functions if earlier is not None} - seen
        seen |= following
        nodes += following


class _Called(nn.Module):
    """A loss as a module, so that torch can swap the model's parameters during the call."""

    def __init__(self, model: nn.Module, loss_fn: Loss) -> None:
        super().__init__()
        self.model = model
        # A loss may itself be a module; in a tuple, its parameters do not count as the model's.
        self._loss_fn = (loss_fn,)

    def forward(self, batch: Any) -> tuple[Tensor, Tensor | float]:
        return self._loss_fn[0](self.model, batch)
