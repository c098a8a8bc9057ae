"""Our rules inside the Trainer of transformers, against the same loop by hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import IterableDataset

pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.slow


class Examples(IterableDataset):
    """Single examples in a fixed order."""

    def __init__(self, batches: list[dict[str, torch.Tensor]]) -> None:
        self.batches = batches

    def __iter__(self):
        for batch in self.batches:
            for inputs, labels in zip(batch["inputs"], batch["labels"], strict=True):
                yield {"inputs": inputs, "labels": labels}


class Classifier(nn.Module):
    """The network as the Trainer calls it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.network(inputs)
        return {"loss": nn.functional.cross_entropy(logits.float(), labels), "logits": logits}


@pytest.fixture
def trainer(batches, tmp_path: Path) -> Callable[..., Any]:
    """Makes a Trainer of a network; ``handed`` are the arguments that concern the optimizer."""

    def made(network: nn.Module, handed: dict[str, Any], **arguments: Any) -> Any:
        quiet = {"report_to": [], "disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no"}
        defaults = {"per_device_train_batch_size": 8, "max_steps": 6, "use_cpu": True, "max_grad_norm": 0.0, **quiet}
        options = transformers.TrainingArguments(str(tmp_path), **(defaults | arguments))
        return transformers.Trainer(Classifier(network), options, train_dataset=Examples(batches), **handed)

    return made


def halving(optimizer: Optimizer) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: 0.5**step)


def test_an_optimizer_and_its_schedule(make, trainer, network, batches, by_hand, assert_same_weights) -> None:
    """With the Trainer's own clipping, in the middle between the gradient and the rule."""
    model, expected = network(), network()
    optimizer = make(model.parameters())
    trainer(model, {"optimizers": (optimizer, halving(optimizer))}, max_grad_norm=0.1).train()
    reference = make(expected.parameters())
    by_hand(expected, reference, batches, schedule=halving(reference), max_norm=0.1)
    assert_same_weights(model, expected)


def test_accumulation(make, trainer, network, batches, by_hand, assert_same_weights) -> None:
    model, expected = network(), network()
    optimizer = make(model.parameters())
    handed = {"optimizers": (optimizer, LambdaLR(optimizer, lambda _: 1.0))}
    trainer(model, handed, gradient_accumulation_steps=2, max_steps=3).train()
    by_hand(expected, make(expected.parameters()), batches, accumulate=2)
    assert_same_weights(model, expected, 1e-5)


def test_mixed_precision(make, trainer, network, batches, by_hand, assert_same_weights) -> None:
    model, expected = network(), network()
    optimizer = make(model.parameters())
    trainer(model, {"optimizers": (optimizer, LambdaLR(optimizer, lambda _: 1.0))}, bf16=True).train()
    by_hand(expected, make(expected.parameters()), batches, precision=torch.bfloat16)
    assert_same_weights(model, expected)


def test_an_optimizer_by_its_class(make, trainer, network, batches, by_hand, assert_same_weights) -> None:
    """The Trainer makes the groups: weights are decayed, biases are not."""
    model, expected = network(), network()
    settings = make.keywords
    handed = {"optimizer_cls_and_kwargs": (make.func, settings)}
    trainer(model, handed, weight_decay=0.1, lr_scheduler_type="constant").train()
    groups = [
        {"params": [expected[0].weight, expected[2].weight], "weight_decay": 0.1},
        {"params": [expected[0].bias, expected[2].bias]},
    ]
    assert_same_weights(model, by_hand(expected, make(groups), batches))


def test_a_resumed_training(make, trainer, network, batches, by_hand, assert_same_weights, tmp_path) -> None:
    """Catches a state or a schedule that the Trainer's checkpoint does not bring back."""
    for steps, resume in ((3, False), (6, True)):
        model = network()
        optimizer = make(model.parameters())
        saving = {"save_strategy": "steps", "save_steps": 3, "max_steps": steps}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer(model, {"optimizers": (optimizer, halving(optimizer))}, **saving).train(resume)
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-6"}
    expected = network()
    reference = make(expected.parameters())
    by_hand(expected, reference, batches, schedule=halving(reference))
    assert_same_weights(model, expected)
