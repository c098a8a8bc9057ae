"""Layers whose weights are their parameters times a fixed factor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class ScaledLinear(nn.Linear):
    """y = (factor · weight) x, without a bias.

    The weights start at 1/factor times what He et al. 2015 start a layer before a ReLU with.

    Args:
        inputs: numbers in.
        outputs: numbers out.
        factor: above 0; a buffer, so that it may differ between models that are computed at once.
    """

    factor: Tensor

    def __init__(self, inputs: int, outputs: int, factor: float) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.register_buffer("factor", torch.tensor(factor))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        with torch.no_grad():
            self.weight /= self.factor

    def forward(self, values: Tensor) -> Tensor:
        """From ``[…, inputs]`` to ``[…, outputs]``."""
        return functional.linear(values, self.factor * self.weight)


def scaled_layers(widths: Sequence[int], factors: Sequence[float]) -> nn.Sequential:
    """A flattened input, then scaled layers with a ReLU between each two.

    Args:
        widths: inputs, hidden layers, outputs.
        factors: of each layer.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs, factor in zip(widths[:-1], widths[1:], factors, strict=True):
        layers += [ScaledLinear(inputs, outputs, factor), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
