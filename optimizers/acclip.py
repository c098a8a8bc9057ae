"""ACClip: momentum clipped coordinate by coordinate, at a threshold that follows the gradient's size."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .base import UpdateRule, count_above
from .execution import Constants, ListState, State
from .kernels import Kernel


class ACClip(UpdateRule):
    """m ← β₁·m + (1−β₁)·g, τ^α ← β₂·τ^α + (1−β₂)·|g|^α, x ← x − lr · min(τ/(|m|+eps), 1) · m.

    The momentum m is clipped, at a threshold τ made from the raw gradient. Both start at zero and are not
    bias-corrected, so τ is a warm-up of its own. Without ``second_moment`` the update is as large as the gradient, so
    learning rates that suit Adam do not suit this rule. eps suppresses coordinates with |m| ≲ eps; at eps = 0 a
    coordinate that never had a gradient becomes 0/0, as in Adam.

    With ``second_moment`` the clipped momentum ĝ is divided once more: x ← x − lr · ĝ/(√(β₂·v)+eps), where
    v ← β₂·v + (1−β₂)·g² is the mean square that includes this step's gradient and is not bias-corrected. Public code
    has that division, the paper has not; its class also adds an L2 penalty of 1e-5 to the gradient by default, where
    weight decay is decoupled here and 0 by default. At α = 2, v is τ², and the rule is Adam without bias correction but
    for the factor 1/√β₂ and the few coordinates that are clipped.

    Source: Zhang et al., "Why are Adaptive Methods Good for Attention Models?", NeurIPS 2020, arXiv:1912.03194.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        betas: how much of the momentum and of τ^α is kept each step, in [0, 1).
        eps: added to |m|, and to the root of the second division.
        alpha: the moment that τ follows, in [1, 2].
        weight_decay: decoupled.
        second_moment: divide once more by the root mean square of the gradient.
        maximize: and ``foreach`` and ``fused`` as in ``UpdateRule``.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-5,
        alpha: float = 1.0,
        weight_decay: float = 0.0,
        second_moment: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        defaults: dict[str, Any] = {"lr": lr, "betas": betas, "eps": eps, "alpha": alpha, "weight_decay": weight_decay}
        defaults |= {"second_moment": second_moment, "maximize": maximize, "foreach": foreach, "fused": fused}
        super().__init__(params, defaults)

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """m, τ^α and, if it is needed and not the same as τ^α, v."""
        return _state_names(group["alpha"], group["second_moment"])

    def constants(self, group: dict[str, Any], norm: Tensor | None) -> Constants:
        """The hyperparameters."""
        return {name: group[name] for name in ("betas", "eps", "alpha", "second_moment")}

    @classmethod
    def accumulate(cls, gradient: Tensor, state: State, constants: Constants) -> None:
        """Update m, τ^α and v."""
        beta1, beta2 = constants["betas"]
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        state["exp_avg_power"].lerp_(power(gradient, constants["alpha"]), 1 - beta2)
        if "exp_avg_sq" in state:
            state["exp_avg_sq"].lerp_(gradient.square(), 1 - beta2)

    @classmethod
    def direction(cls, gradient: Tensor, state: State, constants: Constants) -> Tensor:
        """min(τ/(|m|+eps), 1) · m, over √(β₂·v)+eps if there is a second moment."""
        momentum, eps = state["exp_avg"], constants["eps"]
        threshold = root(state["exp_avg_power"], constants["alpha"])
        clipped = momentum.abs().add_(eps)
        # In place: new memory would cost a sixth of the step.
        torch.div(threshold, clipped, out=clipped).clamp_(max=1).mul_(momentum)
        if constants["second_moment"]:
            root_mean_square = state["exp_avg_sq"].sqrt() if "exp_avg_sq" in state else threshold
            clipped.div_(root_mean_square.mul_(math.sqrt(constants["betas"][1])).add_(eps))
        return clipped

    @classmethod
    def foreach_accumulate(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> None:
        """``accumulate`` for a list."""
        beta1, beta2 = constants["betas"]
        torch._foreach_lerp_(states["exp_avg"], gradients, 1 - beta1)
        powers = foreach_power(gradients, constants["alpha"])
        torch._foreach_lerp_(states["exp_avg_power"], powers, 1 - beta2)
        if "exp_avg_sq" in states:
            torch._foreach_lerp_(states["exp_avg_sq"], torch._foreach_pow(gradients, 2), 1 - beta2)

    @classmethod
    def foreach_direction(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> list[Tensor]:
        """``direction`` for a list."""
        momenta, eps = states["exp_avg"], constants["eps"]
        sizes = torch._foreach_abs(momenta)
        torch._foreach_add_(sizes, eps)
        thresholds = foreach_root(states["exp_avg_power"], constants["alpha"])
        clipped = torch._foreach_div(thresholds, sizes)
        torch._foreach_clamp_max_(clipped, 1)
        torch._foreach_mul_(clipped, momenta)
        if constants["second_moment"]:
            roots = torch._foreach_sqrt(states["exp_avg_sq"]) if "exp_avg_sq" in states else thresholds
            torch._foreach_mul_(roots, math.sqrt(constants["betas"][1]))
            torch._foreach_add_(roots, eps)
            torch._foreach_div_(clipped, roots)
        return list(clipped)

    @classmethod
    def kernel(cls, constants: Constants) -> Kernel | None:
        """``acclip``, for the exponents that are a square and a root."""
        alpha, second_moment, (beta1, beta2) = constants["alpha"], constants["second_moment"], constants["betas"]
        if alpha not in (1, 2):
            return None
        numbers = (1 - beta1, 1 - beta2, math.sqrt(beta2), constants["eps"], alpha, second_moment)
        return Kernel("acclip", _state_names(alpha, second_moment), numbers)

    def clipped(self, gradient: Tensor, state: State, constants: Constants) -> Tensor:
        """The coordinates that min(τ/(|m|+eps), 1) · m makes smaller: |m| + eps > τ, but for m = 0."""
        size = state["exp_avg"].abs()
        threshold = root(state["exp_avg_power"], constants["alpha"])
        # Where m = 0 nothing is made smaller.
        zeros_above = ((size == 0) & (threshold < constants["eps"])).sum(dtype=torch.float32)
        return count_above(size.add_(constants["eps"]), threshold) - zeros_above


def _state_names(alpha: float, second_moment: bool) -> tuple[str, ...]:
    if second_moment and alpha != 2:
        return "exp_avg", "exp_avg_power", "exp_avg_sq"
    return "exp_avg", "exp_avg_power"


def power(gradient: Tensor, alpha: float) -> Tensor:
    """|g|^α, a new tensor, in one pass over memory at the exponents 1 and 2."""
    if alpha == 2:
        return gradient.square()
    return gradient.abs() if alpha == 1 else gradient.abs().pow_(alpha)


def foreach_power(gradients: list[Tensor], alpha: float) -> list[Tensor]:
    """``power`` for a list."""
    if alpha == 2:
        return list(torch._foreach_pow(gradients, 2))
    sizes = torch._foreach_abs(gradients)
    return list(sizes if alpha == 1 else torch._foreach_pow(sizes, alpha))


def root(power: Tensor, alpha: float) -> Tensor:
    """The α-th root: the tensor itself at the usual exponent of 1, a new one otherwise."""
    return power if alpha == 1 else power.pow(1 / alpha)


def foreach_root(powers: list[Tensor], alpha: float) -> list[Tensor]:
    """``root`` for a list."""
    return list(powers if alpha == 1 else torch._foreach_pow(powers, 1 / alpha))
