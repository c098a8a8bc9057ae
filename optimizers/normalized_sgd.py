"""Normalized SGD: the averaged gradient divided by its global norm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .averaged_gradient import AveragedGradient
from .execution import Part
from .formula import Constants, ListState, State
from .norms import norm_of_parts


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
