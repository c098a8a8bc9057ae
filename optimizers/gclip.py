"""GClip: SGD on the gradient scaled down to a bounded global norm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .clipped_sgd import ClippedSGD
from .execution import Part
from .formula import Constants, State
from .fused import fused_norm
from .kernels import Kernel
from .norms import norm_of_parts


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
