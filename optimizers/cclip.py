"""CClip: SGD on the gradient clamped coordinate by coordinate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .clipped_sgd import ClippedSGD
from .formula import Constants, State
from .kernels import Kernel


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
        return (gradient.abs() > constants["clip"]).sum()

    @classmethod
    def kernel(cls, constants: Constants) -> Kernel:
        """``cclip``."""
        return cls.momentum_kernel("cclip", constants, constants["clip"])
