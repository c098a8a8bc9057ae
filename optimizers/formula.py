"""What sets one update rule apart from the next, for one parameter and for a list of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .kernels import Kernel

State = dict[str, Tensor]
"""What a rule remembers of one parameter, by name."""

ListState = dict[str, list[Tensor]]
"""The states of a list of parameters, by name."""

Constants = dict[str, Any]
"""The numbers that hold for one parameter group during one step: hyperparameters, a global norm."""


class Formula:
    """A rule as four functions; the step is x ← x − lr·weight_decay·x − lr·direction.

    The two forms of a function do the same operations in the same order, so that their results are equal. They work
    coordinate by coordinate, so that a parameter can be updated in pieces: what coordinates share, such as a norm,
    belongs to the constants.
    """

    @classmethod
    def accumulate(cls, gradient: Tensor, state: State, constants: Constants) -> None:
        """Let a parameter's state take in its gradient, in place; the gradient stays as it is."""
        raise NotImplementedError

    @classmethod
    def direction(cls, gradient: Tensor, state: State, constants: Constants) -> Tensor:
        """The step's direction; gradient and state stay as they are, so that it can be asked for again."""
        raise NotImplementedError

    @classmethod
    def foreach_accumulate(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> None:
        """``accumulate`` for a list of parameters of one device and type."""
        raise NotImplementedError

    @classmethod
    def foreach_direction(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> list[Tensor]:
        """``direction`` for a list of parameters of one device and type."""
        raise NotImplementedError

    @classmethod
    def kernel(cls, constants: Constants) -> Kernel | None:
        """The function in C++ that does the whole step; None for a rule, or for constants, that has none."""
        return None
