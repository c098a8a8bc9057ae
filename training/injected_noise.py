"""Noise of a known law on the gradient of a real run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..configs.schema import InjectedNoise
from ..synthetic.typical_norm import typical_norm


def inject_noise(gradients: Sequence[Tensor], settings: InjectedNoise, seed: int) -> None:
    """Add noise to a gradient, in place: scale · ‖g‖ · z/m with independent z of the law in every coordinate.

    ‖g‖ is the Euclidean norm of the whole gradient before, and m the median norm of z (``typical_norm``). So the median
    of noise norm over gradient norm is ``scale``, whatever the law and the number of parameters; a heavy tail shows in
    how far single steps and single coordinates lie above.

    Args:
        gradients: of all parameters.
        settings: the law and the scale.
        seed: of this step's noise.
    """
    norm = nn.utils.get_total_norm(gradients)
    size = settings.scale / typical_norm(settings.law, sum(gradient.numel() for gradient in gradients))
    generators = {gradient.device: torch.Generator(gradient.device).manual_seed(seed) for gradient in gradients}
    for gradient in gradients:
        noise = settings.law.draw(gradient.shape, generators[gradient.device])
        gradient.add_((noise * (size * norm.to(gradient.device))).to(gradient.dtype))
