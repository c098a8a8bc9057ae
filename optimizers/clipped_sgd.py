"""SGD on a clipped gradient: GClip bounds the gradient's global norm, CClip each of its coordinates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .base import UpdateRule, count_above, norm_of_parts
from .execution import Constants, ListState, Part, State, fused_norm
from .kernels import Kernel


class ClippedSGD(UpdateRule):
    """v ← momentum · v + clip(g), x ← x − lr · v; GClip and CClip add ``clip_gradient``.

    The clipped gradient enters the momentum, as in ``torch.optim.SGD`` behind ``clip_grad_norm_``.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        clip: where the gradient is clipped, in units of the gradient; infinity never clips.
        momentum: how much of v is kept, in [0, 1).
        weight_decay: decoupled.
        maximize: and ``foreach`` and ``fused`` as in ``UpdateRule``.

    Raises:
        ValueError: a value is out of its range.
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
        """V ← momentum · v + clip(g)."""
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


class GClip(ClippedSGD):
    """x ← x − lr · min(clip/‖g‖, 1) · g, with momentum on the scaled gradient.

    ‖g‖ is one Euclidean norm over all parameters of all groups; ``clip`` may differ between groups.

    Source: Zhang et al., "Why are Adaptive Methods Good for Attention Models?", NeurIPS 2020, arXiv:1912.03194;
    the theory there has no momentum.
    """

    def global_norm(self, parts: list[Part]) -> Tensor:
        """‖g‖ over all parameters."""
        norm = fused_norm(parts)
        return norm_of_parts(parts, [part.gradients for part in parts]) if norm is None else norm

    def constants(self, group: dict[str, Any], norm: Tensor | None) -> Constants:
        """The momentum and the factor min(clip/‖g‖, 1), a tensor, so that no step waits for the device."""
        assert norm is not None
        return {"momentum": group["momentum"], "factor": (group["clip"] / norm).clamp(max=1)}

    @classmethod
    def clip_gradient(cls, gradient: Tensor, constants: Constants) -> Tensor:
        """min(clip/‖g‖, 1) · g."""
        return gradient * constants["factor"]

    @classmethod
    def foreach_clip_gradient(cls, gradients: list[Tensor], constants: Constants) -> list[Tensor]:
        """``clip_gradient`` for a list."""
        return list(torch._foreach_mul(gradients, constants["factor"]))

    def clipped(self, gradient: Tensor, state: State, constants: Constants) -> Tensor:
        """All coordinates or none."""
        return (constants["factor"] < 1) * gradient.numel()

    @classmethod
    def kernel(cls, constants: Constants) -> Kernel:
        """``gclip``."""
        return cls.momentum_kernel("gclip", constants, constants["factor"])


class CClip(ClippedSGD):
    """xᵢ ← xᵢ − lr · min(clip/|gᵢ|, 1) · gᵢ, with momentum on the clamped gradient.

    Source: Zhang et al., "Why are Adaptive Methods Good for Attention Models?", NeurIPS 2020, arXiv:1912.03194;
    the theory there has no momentum and lets the threshold differ between coordinates, here it may between groups.
    """

    def constants(self, group: dict[str, Any], norm: Tensor | None) -> Constants:
        """The momentum and the threshold."""
        return {"momentum": group["momentum"], "clip": group["clip"]}

    @classmethod
    def clip_gradient(cls, gradient: Tensor, constants: Constants) -> Tensor:
        """The gradient clamped to [-clip, clip]."""
        return gradient.clamp(-constants["clip"], constants["clip"])

    @classmethod
    def foreach_clip_gradient(cls, gradients: list[Tensor], constants: Constants) -> list[Tensor]:
        """``clip_gradient`` for a list."""
        clamped = torch._foreach_clamp_max(gradients, constants["clip"])
        torch._foreach_clamp_min_(clamped, -constants["clip"])
        return list(clamped)

    def clipped(self, gradient: Tensor, state: State, constants: Constants) -> Tensor:
        """The coordinates with |gᵢ| > clip."""
        return count_above(gradient.abs(), constants["clip"])

    @classmethod
    def kernel(cls, constants: Constants) -> Kernel:
        """``cclip``."""
        return cls.momentum_kernel("cclip", constants, constants["clip"])
