"""Our rules in every form that takes another path, a small network, and the loop that a library must amount to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from whyadam.optimizers import ACClip, CClip, GClip, NormalizedSGD, Signum

Batch = dict[str, torch.Tensor]

RULES: dict[str, Callable[..., Optimizer]] = {
    "gclip": partial(GClip, lr=0.2, clip=0.1, momentum=0.9),
    "cclip": partial(CClip, lr=0.2, clip=0.02, momentum=0.9, foreach=True),
    "acclip": partial(ACClip, lr=0.2),
    "acclip_rms": partial(ACClip, lr=0.01, alpha=2.0, second_moment=True),
    "signum": partial(Signum, lr=0.01),
    "normalized_sgd": partial(NormalizedSGD, lr=0.05),
    "gclip, fused": partial(GClip, lr=0.2, clip=0.1, momentum=0.9, fused=True),
    "cclip, fused": partial(CClip, lr=0.2, clip=0.02, fused=True),
    "acclip, fused": partial(ACClip, lr=0.2, fused=True),
}


@pytest.fixture(params=["gclip", "cclip", "acclip", "normalized_sgd", "gclip, fused", "acclip, fused"])
def make(request) -> Callable[..., Optimizer]:
    """One rule as a function of the parameters and further keyword arguments."""
    return RULES[request.param]


@pytest.fixture
def rules() -> dict[str, Callable[..., Optimizer]]:
    """All of them by name."""
    return RULES


def make_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.fixture
def network() -> Callable[[], nn.Module]:
    """Makes the same small classifier each time."""
    return make_network


def make_batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(6, 8, 4, generator=generator)
    labels = torch.randint(3, (6, 8), generator=generator)
    return [{"inputs": some, "labels": their} for some, their in zip(inputs, labels, strict=True)]


@pytest.fixture
def batches() -> list[Batch]:
    """Six batches of eight examples."""
    return make_batches()


def classification_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch["inputs"]).float(), batch["labels"])


@pytest.fixture
def loss_of() -> Callable[[nn.Module, Batch], torch.Tensor]:
    """The loss that everything here minimises."""
    return classification_loss


def train_by_hand(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[Batch],
    *,
    schedule: Any = None,
    max_norm: float | None = None,
    accumulate: int = 1,
    precision: torch.dtype | None = None,
) -> nn.Module:
    for number, batch in enumerate(batches, start=1):
        with torch.autocast("cpu", precision, enabled=precision is not None):
            loss = classification_loss(model, batch)
        (loss / accumulate).backward()
        if number % accumulate:
            continue
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        optimizer.zero_grad()
    return model


@pytest.fixture
def by_hand() -> Callable[..., nn.Module]:
    """Trains with the loop that everybody would write, and gives the model back."""
    return train_by_hand


def compare_weights(one: nn.Module, other: nn.Module, tolerance: float = 0.0) -> None:
    before = make_network().state_dict()
    for name, weight in one.state_dict().items():
        torch.testing.assert_close(weight, other.state_dict()[name], rtol=tolerance, atol=tolerance)
        assert not torch.equal(weight, before[name]), f"{name} was not trained"


@pytest.fixture
def assert_same_weights() -> Callable[..., None]:
    """Compares two trained networks: to the bit, or within a tolerance."""
    return compare_weights
