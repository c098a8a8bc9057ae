"""A network of four blocks, and batches of unequal size."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Dropout(), nn.Linear(4, 3)).double()


@pytest.fixture
def batches() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "x": torch.randn(count, 5, generator=generator, dtype=torch.float64),
            "y": torch.randint(3, (count,), generator=generator),
        }
        for count in (7, 4)
    ]


@pytest.fixture
def loss() -> Callable[[nn.Module, dict[str, Tensor]], tuple[Tensor, int]]:
    """The summed cross-entropy and the number of examples."""

    def summed(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        return nn.functional.cross_entropy(model(batch["x"]), batch["y"], reduction="sum"), len(batch["y"])

    return summed
