"""Noise of a known tail, added to the gradients of many models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.noise_laws import NoiseLaw
from ..seeds import derive_seed
from .many_models import of_each, repeated
from .typical_norm import typical_norm


@dataclass(frozen=True)
class LayerNoise:
    """Independent noise on every coordinate, as large in each parameter tensor as the tensor's own gradient.

    A tensor with gradient g gets ratio · ‖g‖ · z/m, z drawn from the law and m the median norm of z. That is
    ``training.inject_noise`` for one tensor at a time: measured against each tensor by itself, noise and gradient
    change by the same factor where a weight is written as a factor times another weight.

    Attributes:
        law: of z.
        ratio: median norm of the noise over the norm of the gradient, in each tensor.
    """

    law: NoiseLaw
    ratio: float

    def added(self, gradients: Mapping[str, Tensor], seeds: Sequence[int], step: int) -> dict[str, Tensor]:
        """The gradients with noise.

        Args:
            gradients: by name, ``[copies · seeds, …]``; model i of a copy has the i-th seed.
            seeds: all copies of a seed, and all rules, get the same z.
            step: gets a noise of its own.
        """
        generators = [torch.Generator().manual_seed(derive_seed(seed, "inject_noise", step)) for seed in seeds]
        noisy = {}
        for name, gradient in gradients.items():
            drawn = torch.stack([self.law.draw(gradient.shape[1:], generator) for generator in generators])
            size = self.ratio / typical_norm(self.law, gradient[0].numel()) * gradient.flatten(1).norm(dim=1)
            noise = repeated(drawn.to(gradient), len(gradient) // len(seeds)) * of_each(size, gradient)
            noisy[name] = gradient + noise
        return noisy
