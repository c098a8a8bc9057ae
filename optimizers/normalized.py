"""Rules that ignore the gradient's size: Signum takes the sign of its running average, NormalizedSGD the direction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .base import UpdateRule, norm_of_parts
from .execution import Constants, ListState, Part, State


class AveragedGradient(UpdateRule):
    """m ← momentum · m + (1 − momentum) · g; Signum and NormalizedSGD add ``direction``.

    Args:
        params: parameters, or groups of them.
        lr: learning rate, in units of the parameters: of each coordinate's step (Signum) or of the complete step's
            length (NormalizedSGD).
        momentum: how much of m is kept each step, in [0, 1).
        weight_decay: decoupled.
        maximize: and ``foreach`` and ``fused`` as in ``UpdateRule``.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        defaults: dict[str, Any] = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"maximize": maximize, "foreach": foreach, "fused": fused})

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """m, unless there is no momentum."""
        return ("exp_avg",) if group["momentum"] else ()

    @classmethod
    def accumulate(cls, gradient: Tensor, state: State, constants: Constants) -> None:
        """Update m."""
        if state:
            state["exp_avg"].lerp_(gradient, 1 - constants["momentum"])

    @classmethod
    def foreach_accumulate(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> None:
        """``accumulate`` for a list."""
        if states:
            torch._foreach_lerp_(states["exp_avg"], gradients, 1 - constants["momentum"])


class Signum(AveragedGradient):
    """m ← momentum · m + (1 − momentum) · g, x ← x − lr · sign(m); without momentum it is sign descent.

    Every coordinate moves by lr, or not at all where m = 0. NaN stays NaN, as in the other rules: ``torch.sign`` gives
    0 for it, and a run that has diverged would look as if it stood still.

    Source: Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems", ICML 2018, arXiv:1802.04434.
    """

    def constants(self, group: dict[str, Any], norm: Tensor | None) -> Constants:
        """The momentum."""
        return {"momentum": group["momentum"]}

    @classmethod
    def direction(cls, gradient: Tensor, state: State, constants: Constants) -> Tensor:
        """sign(m), or sign(g) without momentum."""
        average = state.get("exp_avg", gradient)
        # 0 · NaN is NaN; the clamp keeps 0 · infinity out.
        return torch.sign(average).add_(average.clamp(-1, 1).mul_(0))

    @classmethod
    def foreach_direction(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> list[Tensor]:
        """``direction`` for a list."""
        averages = states.get("exp_avg", gradients)
        zeros = torch._foreach_clamp_max(averages, 1)
        torch._foreach_clamp_min_(zeros, -1)
        torch._foreach_mul_(zeros, 0)
        return list(torch._foreach_add(torch._foreach_sign(averages), zeros))


class NormalizedSGD(AveragedGradient):
    """m ← momentum · m + (1 − momentum) · g, x ← x − lr · m/‖m‖: every step has length lr, or 0 where m = 0.

    ‖m‖ is one Euclidean norm over all parameters of all groups that have a gradient.

    Source: Cutkosky & Mehta, "Momentum Improves Normalized SGD", ICML 2020, arXiv:2002.03305; without momentum:
    Hazan, Levy & Shalev-Shwartz, "Beyond Convexity", NeurIPS 2015, arXiv:1507.02030.
    """

    def prepare(self, parts: list[Part]) -> None:
        """Update m for all parameters: its norm is needed before the first one moves."""
        for part in parts:
            super().foreach_accumulate(part.oriented_gradients(), part.listed_states(), part.group)

    def global_norm(self, parts: list[Part]) -> Tensor:
        """‖m‖ over all parameters."""
        return norm_of_parts(parts, [part.listed_states().get("exp_avg", part.gradients) for part in parts])

    def constants(self, group: dict[str, Any], norm: Tensor | None) -> Constants:
        """The norm, kept above 0 in every type so that m = 0 gives a step of 0."""
        assert norm is not None
        return {"norm": norm.clamp(min=torch.finfo(torch.float32).tiny)}

    @classmethod
    def accumulate(cls, gradient: Tensor, state: State, constants: Constants) -> None:
        """Nothing: ``prepare`` has done it."""

    @classmethod
    def direction(cls, gradient: Tensor, state: State, constants: Constants) -> Tensor:
        """m/‖m‖, or g/‖g‖ without momentum."""
        return state.get("exp_avg", gradient) / constants["norm"]

    @classmethod
    def foreach_accumulate(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> None:
        """Nothing: ``prepare`` has done it."""

    @classmethod
    def foreach_direction(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> list[Tensor]:
        """``direction`` for a list."""
        return list(torch._foreach_div(states.get("exp_avg", gradients), constants["norm"]))
