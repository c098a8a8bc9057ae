"""What GClip and CClip share: SGD on a clipped gradient, with the momentum of ``torch.optim.SGD``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .formula import Constants, ListState, State
from .kernels import Kernel
from .update_rule import UpdateRule


class ClippedSGD(UpdateRule):
    """v ← momentum · v + clip(g), x ← x − lr · v; a rule adds ``clip_gradient``.

    The clipped gradient enters the momentum, as in ``torch.optim.SGD`` behind ``clip_grad_norm_``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        clip: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        """Take over the parameters.

        Args:
            params: parameters, or groups of them.
            lr: learning rate.
            clip: where the gradient is clipped, in units of the gradient; infinity never clips.
            momentum: how much of v is kept, in [0, 1).
            weight_decay: decoupled: the weights shrink by lr · weight_decay each step.
            maximize: go uphill.
            foreach: all parameters at once (default on a GPU) or one after the other (default elsewhere).
            fused: compile the update.

        Raises:
            ValueError: a value is out of its range.
        """
        defaults: dict[str, Any] = {"lr": lr, "clip": clip, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"maximize": maximize, "foreach": foreach, "fused": fused})

    @classmethod
    def clip_gradient(cls, gradient: Tensor, constants: Constants) -> Tensor:
        """clip(g), a new tensor."""
        raise NotImplementedError

    @classmethod
    def foreach_clip_gradient(cls, gradients: list[Tensor], constants: Constants) -> list[Tensor]:
        """``clip_gradient`` for a list."""
        raise NotImplementedError

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """v, unless there is no momentum."""
        return ("momentum_buffer",) if group["momentum"] else ()

    @classmethod
    def accumulate(cls, gradient: Tensor, state: State, constants: Constants) -> None:
        """Let the momentum take in the clipped gradient."""
        if state:
            state["momentum_buffer"].mul_(constants["momentum"]).add_(cls.clip_gradient(gradient, constants))

    @classmethod
    def direction(cls, gradient: Tensor, state: State, constants: Constants) -> Tensor:
        """The momentum v, or clip(g) without momentum."""
        return state["momentum_buffer"] if state else cls.clip_gradient(gradient, constants)

    @classmethod
    def foreach_accumulate(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> None:
        """``accumulate`` for a list."""
        if states:
            torch._foreach_mul_(states["momentum_buffer"], constants["momentum"])
            torch._foreach_add_(states["momentum_buffer"], cls.foreach_clip_gradient(gradients, constants))

    @classmethod
    def foreach_direction(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> list[Tensor]:
        """``direction`` for a list."""
        return states["momentum_buffer"] if states else cls.foreach_clip_gradient(gradients, constants)

    @classmethod
    def momentum_kernel(cls, name: str, constants: Constants, limit: float | Tensor) -> Kernel:
        """The kernel of a rule whose own numbers are the momentum and one ``limit``."""
        states = ("momentum_buffer",) if constants["momentum"] else ()
        return Kernel(name, states, (constants["momentum"], float(limit)))
