"""The Hessian preconditioned by Adam's diagonal D: D^{-1/2} H D^{-1/2}, and the step that Adam takes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import UserError
from .operators import HessianOperator


class Preconditioned:
    """D^{-1/2} H D^{-1/2}, symmetric and with the eigenvalues of D^{-1} H.

    Steps along D^{-1} g in the weights are gradient descent with this matrix in the weights times D^{1/2}.

    Args:
        operator: H.
        scale: D, ``[size]``, positive.

    Attributes:
        size: number of parameters.
        dtype: precision of the model.
        device: of the model.

    Raises:
        UserError: an entry of D is not positive.
    """

    def __init__(self, operator: HessianOperator, scale: Tensor) -> None:
        if not (scale > 0).all():
            raise UserError("a preconditioner must be positive: give Adam an eps larger than 0")
        self._operator = operator
        self._root = scale.double().rsqrt()
        self.size, self.dtype, self.device = operator.size, operator.dtype, operator.device

    def matvec(self, vector: Tensor) -> Tensor:
        """The product with ``v`` of shape ``[size]``."""
        return self.matmat(vector[None])[0]

    def matmat(self, vectors: Tensor) -> Tensor:
        """The products with the rows of ``vectors``, ``[k, size]``."""
        root = self._root.to(vectors.dtype)
        return self._operator.matmat(vectors * root) * root


@dataclass(frozen=True)
class AdamStep:
    """Adam's step at a model's present weights.

    Attributes:
        scale: D, by which the first moment is divided, one tensor per trained parameter.
        direction: the step per unit of learning rate, likewise.
        source: ``moments``, from the optimizer's state; or ``gradient``, Adam's first step from here.
    """

    scale: dict[str, Tensor]
    direction: dict[str, Tensor]
    source: Literal["moments", "gradient"]


def adam_step(model: nn.Module, optimizer: Optimizer | None, gradient: dict[str, Tensor]) -> AdamStep:
    """Adam's step from the moments of an optimizer that has both, from the gradient otherwise or without optimizer."""
    if optimizer is not None:
        with suppress(UserError):
            return AdamStep(adam_scale(model, optimizer), adam_direction(model, optimizer), "moments")
    scale = first_scale(gradient)
    return AdamStep(scale, {name: value / scale[name] for name, value in gradient.items()}, "gradient")


def adam_scale(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """D = √v̂ + eps of an Adam or AdamW that has taken a step, one tensor per trained parameter.

    Raises:
        UserError: the optimizer has no moments for a parameter.
    """
    return {name: root for name, (root, _) in _moments(model, optimizer).items()}


def first_scale(gradient: dict[str, Tensor], eps: float = 1e-8) -> dict[str, Tensor]:
    """D = abs(g) + eps of Adam's first step, for a model that has not been trained."""
    return {name: value.abs() + eps for name, value in gradient.items()}


def adam_direction(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """m̂ / (√v̂ + eps), the step that Adam last took per unit of learning rate, one tensor per trained parameter.

    Raises:
        UserError: the optimizer has no moments for a parameter.
    """
    return {name: mean / root for name, (root, mean) in _moments(model, optimizer).items()}


def _moments(model: nn.Module, optimizer: Optimizer) -> dict[str, tuple[Tensor, Tensor]]:
    """√v̂ + eps and m̂ of each trained parameter."""
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    moments = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        state = optimizer.state.get(parameter, {})
        if not {"exp_avg", "exp_avg_sq", "step"} <= set(state):
            raise UserError(f"{type(optimizer).__name__} has no Adam moments for {name}: train with Adam first")
        beta1, beta2 = groups[parameter]["betas"]
        step = float(state["step"])
        mean, square = (state[key].detach().to(parameter.device) for key in ("exp_avg", "exp_avg_sq"))
        moments[name] = (square / (1 - beta2**step)).sqrt() + groups[parameter]["eps"], mean / (1 - beta1**step)
    return moments
