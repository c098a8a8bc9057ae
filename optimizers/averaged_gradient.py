"""What Signum and NormalizedSGD share: a running average of the gradient whose size they then ignore."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .formula import Constants, ListState, State
from .update_rule import UpdateRule


class AveragedGradient(UpdateRule):
    """m ← momentum · m + (1 − momentum) · g; a rule adds ``direction``."""

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
        """Take over the parameters.

        Args:
            params: parameters, or groups of them.
            lr: learning rate, in units of the parameters: of each coordinate's step (Signum) or of the whole step's
                length (NormalizedSGD).
            momentum: how much of m is kept each step, in [0, 1).
            weight_decay: decoupled: the weights shrink by lr · weight_decay each step.
            maximize: go uphill.
            foreach: all parameters at once (default on a GPU) or one after the other (default elsewhere).
            fused: compile the update.

        Raises:
            ValueError: a value is out of its range.
        """
        defaults: dict[str, Any] = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"maximize": maximize, "foreach": foreach, "fused": fused})

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """m, unless there is no momentum."""
        return ("exp_avg",) if group["momentum"] else ()

    @classmethod
    def accumulate(cls, gradient: Tensor, state: State, constants: Constants) -> None:
        """Let the average take in the gradient."""
        if state:
            state["exp_avg"].lerp_(gradient, 1 - constants["momentum"])

    @classmethod
    def foreach_accumulate(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> None:
        """``accumulate`` for a list."""
        if states:
            torch._foreach_lerp_(states["exp_avg"], gradients, 1 - constants["momentum"])
