"""ACClip: momentum clipped coordinate by coordinate, at a threshold that follows the gradient's size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .formula import Constants, ListState, State
from .update_rule import UpdateRule


class ACClip(UpdateRule):
    """m ← β₁·m + (1−β₁)·g, τ^α ← β₂·τ^α + (1−β₂)·|g|^α, x ← x − lr · min(τ/(|m|+eps), 1) · m.

    The momentum m is clipped, at a threshold τ made from the raw gradient. Both start at zero and are not
    bias-corrected, so τ is a warm-up of its own. Without ``second_moment`` the update is as large as the gradient, so
    learning rates that suit Adam do not suit this rule. eps suppresses coordinates with |m| ≲ eps; at eps = 0 a
    coordinate that never had a gradient becomes 0/0, as in Adam.

    With ``second_moment`` the clipped momentum ĝ is divided once more: x ← x − lr · ĝ/(√(β₂·v)+eps), where
    v ← β₂·v + (1−β₂)·g² is the mean square that includes this step's gradient and is not bias-corrected. Public code
    has that division, the paper has not. At α = 2, v is τ², and the rule is Adam without bias correction but for the
    factor 1/√β₂ and the few coordinates that are clipped.

    Source: Zhang et al., "Why are Adaptive Methods Good for Attention Models?", NeurIPS 2020, arXiv:1912.03194.
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
        """Take over the parameters.

        Args:
            params: parameters, or groups of them.
            lr: learning rate.
            betas: how much of the momentum and of τ^α is kept each step, in [0, 1).
            eps: added to |m|, and to the root of the second division.
            alpha: the moment that τ follows, in [1, 2].
            weight_decay: decoupled: the weights shrink by lr · weight_decay each step.
            second_moment: divide once more by the root mean square of the gradient.
            maximize: go uphill.
            foreach: all parameters at once (default on a GPU) or one after the other (default elsewhere).
            fused: compile the update.

        Raises:
            ValueError: a value is out of its range.
        """
        defaults: dict[str, Any] = {"lr": lr, "betas": betas, "eps": eps, "alpha": alpha, "weight_decay": weight_decay}
        defaults |= {"second_moment": second_moment, "maximize": maximize, "foreach": foreach, "fused": fused}
        super().__init__(params, defaults)

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """m, τ^α and, if it is needed and not the same as τ^α, v."""
        if group["second_moment"] and group["alpha"] != 2:
            return "exp_avg", "exp_avg_power", "exp_avg_sq"
        return "exp_avg", "exp_avg_power"

    def constants(self, group: dict[str, Any], norm: Tensor | None) -> Constants:
        """The hyperparameters."""
        return {name: group[name] for name in ("betas", "eps", "alpha", "second_moment")}

    @classmethod
    def accumulate(cls, gradient: Tensor, state: State, constants: Constants) -> None:
        """Update m, τ^α and v."""
        beta1, beta2 = constants["betas"]
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        state["exp_avg_power"].lerp_(power(gradient.abs(), constants["alpha"]), 1 - beta2)
        if "exp_avg_sq" in state:
            state["exp_avg_sq"].lerp_(gradient.square(), 1 - beta2)

    @classmethod
    def direction(cls, gradient: Tensor, state: State, constants: Constants) -> Tensor:
        """min(τ/(|m|+eps), 1) · m, over √(β₂·v)+eps if there is a second moment."""
        momentum, eps = state["exp_avg"], constants["eps"]
        threshold = power(state["exp_avg_power"], 1 / constants["alpha"])
        clipped = (threshold / momentum.abs().add_(eps)).clamp_(max=1).mul_(momentum)
        if constants["second_moment"]:
            mean_square = state.get("exp_avg_sq", state["exp_avg_power"])
            clipped.div_((mean_square * constants["betas"][1]).sqrt_().add_(eps))
        return clipped

    @classmethod
    def foreach_accumulate(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> None:
        """``accumulate`` for a list."""
        beta1, beta2 = constants["betas"]
        torch._foreach_lerp_(states["exp_avg"], gradients, 1 - beta1)
        powers = foreach_power(torch._foreach_abs(gradients), constants["alpha"])
        torch._foreach_lerp_(states["exp_avg_power"], powers, 1 - beta2)
        if "exp_avg_sq" in states:
            torch._foreach_lerp_(states["exp_avg_sq"], torch._foreach_pow(gradients, 2), 1 - beta2)

    @classmethod
    def foreach_direction(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> list[Tensor]:
        """``direction`` for a list."""
        momenta, eps = states["exp_avg"], constants["eps"]
        sizes = torch._foreach_abs(momenta)
        torch._foreach_add_(sizes, eps)
        clipped = torch._foreach_div(foreach_power(states["exp_avg_power"], 1 / constants["alpha"]), sizes)
        torch._foreach_clamp_max_(clipped, 1)
        torch._foreach_mul_(clipped, momenta)
        if constants["second_moment"]:
            mean_squares = states.get("exp_avg_sq", states["exp_avg_power"])
            roots = torch._foreach_mul(mean_squares, constants["betas"][1])
            torch._foreach_sqrt_(roots)
            torch._foreach_add_(roots, eps)
            torch._foreach_div_(clipped, roots)
        return list(clipped)

    def clipped(self, gradient: Tensor, state: State, constants: Constants) -> Tensor:
        """The coordinates with |m| > τ."""
        return (state["exp_avg"].abs() > power(state["exp_avg_power"], 1 / constants["alpha"])).sum()


def power(base: Tensor, exponent: float) -> Tensor:
    """The base itself at the usual exponent of 1, which saves a pass over memory."""
    return base if exponent == 1 else base.pow(exponent)


def foreach_power(bases: list[Tensor] | tuple[Tensor, ...], exponent: float) -> list[Tensor]:
    """``power`` for a list."""
    return list(bases if exponent == 1 else torch._foreach_pow(bases, exponent))
