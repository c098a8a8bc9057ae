"""A problem whose noise can be written down: least squares, one weight vector."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

EXAMPLES, WEIGHTS = 60, 7


@dataclass(frozen=True)
class LeastSquares:
    """60 examples with seven features, in float64; the loss is ½(x·w − y)²."""

    x: Tensor
    y: Tensor
    model: nn.Linear

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, keys: list[tuple[int, int]]) -> dict[str, Tensor]:
        rows = [index for _, index in keys]
        return {"x": self.x[rows], "y": self.y[rows]}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        residual = model(batch["x"]).squeeze(1) - batch["y"]
        return 0.5 * (residual**2).sum(), torch.tensor(len(residual))

    def example_gradients(self) -> Tensor:
        """(xᵢ·w − yᵢ) xᵢ, ``[60, 7]``."""
        residual = self.x @ self.model.weight.detach()[0] - self.y
        return residual[:, None] * self.x


@pytest.fixture
def least_squares() -> LeastSquares:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(EXAMPLES, WEIGHTS, generator=generator, dtype=torch.float64)
    y = torch.randn(EXAMPLES, generator=generator, dtype=torch.float64)
    model = nn.Linear(WEIGHTS, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.randn(1, WEIGHTS, generator=generator))
    return LeastSquares(x, y, model)
