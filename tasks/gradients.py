"""Losses and mean gradients as functions of a model's parameters, for the measurements of noise and curvature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .base import Batch, Loss


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters with ``requires_grad``, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def mean_gradient(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Batch],
    *,
    terms: float | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """The gradient of the mean loss over all terms of all batches, whatever their sizes; ``.grad`` is not touched.

    Args:
        model: in the mode in which it is to compute.
        loss: from the model and a batch to the summed loss and the number of its terms.
        batches: read once.
        terms: the number of terms in all batches. If it is known, each loss is divided by it before it is
            differentiated, which keeps the gradients of a large sum in range; otherwise the sum is divided afterwards.
        dtype: of the sum over batches; by default that of the parameters.

    Returns:
        One tensor per trained parameter, by name; zero for a parameter that the loss does not use.

    Raises:
        FloatingPointError: the gradient is NaN or infinite.
        ValueError: there is no loss term.
    """
    parameters = trained_parameters(model)
    total: list[Tensor] = []
    counted: Tensor | float = 0
    for batch in batches:
        value, count = loss(model, batch)
        counted = counted + count
        value = value if terms is None else value / terms
        part = torch.autograd.grad(value, list(parameters.values()), allow_unused=True, materialize_grads=True)
        if not total:
            total = [gradient.to(dtype or gradient.dtype) for gradient in part]
        else:
            torch._foreach_add_(total, list(part))
    if not total or not counted:
        raise ValueError("there is no loss term to take the gradient of")
    if terms is None:
        torch._foreach_div_(total, counted)
    if not torch.isfinite(nn.utils.get_total_norm(total)):
        raise FloatingPointError("a gradient is NaN or infinite")
    return dict(zip(parameters, total, strict=True))


def loss_with(model: nn.Module, loss: Loss, values: Mapping[str, Tensor], batch: Any) -> tuple[Tensor, Tensor | float]:
    """``loss(model, batch)`` with other values in place of the model's parameters, to which gradients flow.

    Args:
        model: unchanged afterwards.
        loss: must call the model that it is given.
        values: by names of ``named_parameters``; the others stay as they are.
        batch: what ``loss`` understands.
    """
    inside = {f"model.{name}": value for name, value in values.items()}
    result: tuple[Tensor, Tensor | float] = functional_call(_LossModule(model, loss), inside, (batch,))
    return result


class _LossModule(nn.Module):
    """A loss as a module, so that ``functional_call`` can replace the model's parameters."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        # A loss may be a module itself: in a tuple, its parameters are not registered here.
        self._loss = (loss,)

    def forward(self, batch: Any) -> tuple[Tensor, Tensor | float]:
        return self._loss[0](self.model, batch)
