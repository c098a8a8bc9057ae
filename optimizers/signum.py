"""Signum: the sign of the averaged gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .averaged_gradient import AveragedGradient
from .formula import Constants, ListState, State


class Signum(AveragedGradient):
    """m ← momentum · m + (1 − momentum) · g, x ← x − lr · sign(m); without momentum it is sign descent.

    Every coordinate moves by lr, or not at all where m = 0.

    Source: Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems", ICML 2018, arXiv:1802.04434.
    """

    def constants(self, group: dict[str, Any], norm: Tensor | None) -> Constants:
        """The momentum."""
        return {"momentum": group["momentum"]}

    @classmethod
    def direction(cls, gradient: Tensor, state: State, constants: Constants) -> Tensor:
        """sign(m), or sign(g) without momentum."""
        return torch.sign(state.get("exp_avg", gradient))

    @classmethod
    def foreach_direction(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> list[Tensor]:
        """``direction`` for a list."""
        return list(torch._foreach_sign(states.get("exp_avg", gradients)))
