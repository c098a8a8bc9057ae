"""The gradient of the mean loss over batches, as the noise and the curvature laboratories need it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

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
