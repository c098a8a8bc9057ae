"""torch.compile around our rules: the same numbers, and nothing compiled anew when a schedule moves."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from whyadam.optimizers import ACClip, CClip, Signum

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()


def graphs() -> int:
    """How often something was compiled."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_a_compiled_loop(make, network, batches, loss_of, by_hand, assert_same_weights) -> None:
    """Model, step and schedule under torch.compile; the model is compiled once and the step as it is."""
    model, expected = network(), network()
    optimizer = make(model.parameters())
    schedule = OneCycleLR(optimizer, max_lr=0.1, total_steps=8)
    compiled = torch.compile(model, backend="aot_eager")

    @torch.compile(backend="aot_eager")
    def step() -> None:
        optimizer.step()

    for batch in batches:
        optimizer.zero_grad()
        loss_of(compiled, batch).backward()
        step()
        schedule.step()
    assert graphs() == 1
    reference = make(expected.parameters())
    by_hand(expected, reference, batches, schedule=OneCycleLR(reference, max_lr=0.1, total_steps=8))
    assert_same_weights(model, expected, 1e-6)


@pytest.mark.parametrize("rule", [ACClip, CClip, Signum])
def test_a_moving_momentum_does_not_compile_anew(rule) -> None:
    """Parameters that the C++ kernels do not take go through torch.compile; a compiled-in momentum would show."""
    tensors = [nn.Parameter(torch.ones(5, dtype=torch.float64)) for _ in range(2)]
    options = {"lr": 0.1} | ({"clip": 0.5, "momentum": 0.9} if rule is CClip else {})
    counts = []
    optimizers = [rule([tensors[0]], fused=True, **options), rule([tensors[1]], **options)]
    schedules = [OneCycleLR(optimizer, max_lr=0.1, total_steps=12) for optimizer in optimizers]
    for number in range(10):
        for tensor, optimizer, schedule in zip(tensors, optimizers, schedules, strict=True):
            tensor.grad = torch.randn(5, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
            optimizer.step()
            schedule.step()
        counts.append(graphs())
    torch.testing.assert_close(*tensors, rtol=1e-12, atol=1e-12)
    assert 0 < counts[2] == counts[-1]
