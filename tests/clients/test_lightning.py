"""Our rules inside Lightning, with automatic optimization, against the same loop by hand."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

lightning = pytest.importorskip("lightning")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def halving(optimizer: torch.optim.Optimizer) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: 0.5**step)


class Classifier(lightning.LightningModule):
    def __init__(self, network: nn.Module, make: Callable[..., torch.optim.Optimizer], loss_of: Any) -> None:
        super().__init__()
        self.network, self.make, self.loss_of = network, make, loss_of

    def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.loss_of(self.network, batch)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.make(self.parameters())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": halving(optimizer), "interval": "step"}}


@pytest.fixture
def fit(make, batches, loss_of) -> Callable[..., Any]:
    """Trains a network with Lightning and gives the trainer back."""

    def fitted(network: nn.Module, checkpoint: Any = None, **options: Any) -> Any:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        defaults = {"accelerator": "cpu", "max_epochs": 1, "enable_checkpointing": False, **quiet}
        trainer = lightning.Trainer(**(defaults | options))
        loader = DataLoader(batches, batch_size=None)
        trainer.fit(Classifier(network, make, loss_of), loader, ckpt_path=checkpoint)
        return trainer

    return fitted


@pytest.fixture
def expected(make, network, batches, by_hand) -> Callable[..., nn.Module]:
    """Trains by hand with the same schedule."""

    def trained(batches: Any = batches, **options: Any) -> nn.Module:
        model = network()
        optimizer = make(model.parameters())
        return by_hand(model, optimizer, batches, schedule=halving(optimizer), **options)

    return trained


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({}, {}),
        ({"gradient_clip_val": 0.1, "accumulate_grad_batches": 2}, {"max_norm": 0.1, "accumulate": 2}),
        ({"precision": "bf16-mixed", "gradient_clip_val": 0.1}, {"precision": torch.bfloat16, "max_norm": 0.1}),
    ],
    ids=["plain", "clipped and accumulated", "bf16-mixed"],
)
def test_automatic_optimization(options, same, fit, expected, network, assert_same_weights) -> None:
    """Lightning hands the whole step over as a closure; twice called, or not at all, it would show."""
    model = network()
    trainer = fit(model, **options)
    assert trainer.global_step == 6 // same.get("accumulate", 1)
    assert_same_weights(model, expected(**same))


def test_a_scaler(fit, network, expected, assert_same_weights) -> None:
    """Lightning's mixed precision with a GradScaler of the CPU; the scale is a power of 2 and changes no bit."""
    from lightning.pytorch.plugins.precision import MixedPrecision

    model, scaler = network(), torch.amp.GradScaler("cpu", init_scale=1024.0)
    fit(model, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert scaler.get_scale() == 1024.0
    assert_same_weights(model, expected(precision=torch.float16), 1e-3)


def test_a_resumed_training(fit, expected, network, batches, assert_same_weights, tmp_path) -> None:
    """Catches a state or a schedule that Lightning's checkpoint does not bring back."""
    fit(network()).save_checkpoint(tmp_path / "one_epoch.ckpt")
    model = network()
    assert fit(model, tmp_path / "one_epoch.ckpt", max_epochs=2).global_step == 12
    assert_same_weights(model, expected(batches=[*batches, *batches]))
