"""A point whose coordinates are several parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PointBlocks(nn.Module):
    """Parameters that are called without an input and give themselves, one after the other.

    Args:
        start: ``[size]``.
        sizes: of the parameters; they add up to ``size``.
    """

    def __init__(self, start: Tensor, sizes: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ParameterList(start.split(list(sizes)))

    def forward(self) -> Tensor:
        """The point ``[size]``."""
        return torch.cat(list(self.blocks))
