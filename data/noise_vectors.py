"""Examples of which each is one vector of noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Key


class NoiseVectors:
    """Vectors that are kept in memory.

    Args:
        noise: float32 ``[examples, size]``.
    """

    def __init__(self, noise: Tensor) -> None:
        self._noise = noise

    def __len__(self) -> int:
        return len(self._noise)

    def batch(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """``noise``, float32 ``[len(keys), size]``."""
        return {"noise": self._noise[torch.tensor([index for _, index in keys])]}
