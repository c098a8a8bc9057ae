"""Our rules behind Accelerate: prepared, accumulated, clipped, saved and loaded, against the same loop by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

accelerate = pytest.importorskip("accelerate")

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _fresh_accelerate():
    """It keeps its settings for the whole process."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def halving(optimizer: torch.optim.Optimizer) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: 0.5**step)


@pytest.fixture
def train(make, batches, loss_of, tmp_path) -> Callable[..., nn.Module]:
    """Trains a network; with ``cut`` it is saved after two steps and the rest is done by everything made anew."""

    def trained(network: nn.Module, *, cut: bool = False, **options: Any) -> nn.Module:
        accelerator = accelerate.Accelerator(cpu=True, **options)
        optimizer = make(network.parameters())
        schedule = halving(optimizer)
        loader = DataLoader(batches, batch_size=1, collate_fn=lambda single: single[0])
        model, optimizer, loader, schedule = accelerator.prepare(network, optimizer, loader, schedule)
        if cut:
            accelerator.load_state(tmp_path / "saved")
            loader = accelerator.skip_first_batches(loader, 4)
        for number, batch in enumerate(loader, start=1):
            with accelerator.accumulate(model):
                accelerator.backward(loss_of(model, batch))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 0.1)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            if number == 4 and not cut:
                accelerator.save_state(tmp_path / "saved")
        return network

    return trained


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_prepared_optimizer(accumulate, make, train, network, batches, by_hand, assert_same_weights) -> None:
    """Also saved in the middle and gone on with by everything made anew."""
    model = train(network(), gradient_accumulation_steps=accumulate)
    expected = network()
    optimizer = make(expected.parameters())
    by_hand(expected, optimizer, batches, schedule=halving(optimizer), max_norm=0.1, accumulate=accumulate)
    assert_same_weights(model, expected)
    assert_same_weights(train(network(), cut=True, gradient_accumulation_steps=accumulate), expected)


def test_mixed_precision(make, train, network, batches, by_hand, assert_same_weights) -> None:
    model, expected = train(network(), mixed_precision="bf16"), network()
    optimizer = make(expected.parameters())
    by_hand(expected, optimizer, batches, schedule=halving(optimizer), max_norm=0.1, precision=torch.bfloat16)
    assert_same_weights(model, expected)
