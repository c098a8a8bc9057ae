"""Vectorised single-example gradients against a loop, on every architecture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from whyadam.models import MODELS, Head
from whyadam.noise.gradients import (
    batch_noise,
    example_gradients,
    example_mode,
    example_noise,
    looped_example_gradients,
    reference_gradient,
)
from whyadam.tasks.gradients import trained_parameters

CLASSES, VOCABULARY, LENGTH = 5, 30, 6
TRANSFORMER = {"n_layer": 2, "n_embd": 16, "n_head": 2, "dropout": 0.0}
VGG = {"name": "vgg16", "layers": [1, 1, 1, 1, 1], "head": "small", "dropout": 0.0}
MODEL_SETTINGS: dict[str, tuple[dict[str, Any], Head]] = {
    "gpt2": ({"name": "gpt2_nano", "n_positions": 8, **TRANSFORMER}, Head("causal_lm", VOCABULARY)),
    "bert": ({"name": "bert_nano", "n_positions": 8, **TRANSFORMER}, Head("masked_lm", VOCABULARY)),
    "vit": ({"name": "vit_nano", "patch_size": 4, **TRANSFORMER}, Head("classification", CLASSES, 8)),
    "vgg": (VGG, Head("classification", CLASSES, 32)),
    "vgg batch norm": ({**VGG, "batch_norm": True}, Head("classification", CLASSES, 32)),
    "resnet": ({"name": "resnet18", "layers": [1] * 4, "stem": "small"}, Head("classification", CLASSES, 8)),
}


def build(name: str) -> nn.Module:
    settings, head = MODEL_SETTINGS[name]
    torch.manual_seed(0)
    model = MODELS[settings["name"]].model_validate(settings).build(head)
    with torch.no_grad():
        for parameter in model.parameters():
            # A ViT's classifier starts at zero, which would keep every other gradient at zero.
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def make_batch(name: str, examples: int = 4) -> dict[str, Tensor]:
    """For language models half of the labels is ignored, so that examples differ in their number of terms."""
    head = MODEL_SETTINGS[name][1]
    generator = torch.Generator().manual_seed(1)
    if head.image_size is not None:
        images = torch.randn(examples, 3, head.image_size, head.image_size, generator=generator)
        return {"images": images, "labels": torch.randint(CLASSES, (examples,), generator=generator)}
    ids, labels = torch.randint(VOCABULARY, (2, examples, LENGTH), generator=generator)
    labels[torch.rand(examples, LENGTH, generator=generator) < 0.5] = -100
    labels[:, 0] = 1
    mask = torch.arange(LENGTH) < torch.tensor([6, 4, 2, 5])[:, None]
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}


def loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    labels = batch["labels"]
    output = (
        model(**{name: value for name, value in batch.items() if name != "labels"}) if "input_ids" in batch else None
    )
    logits = model(batch["images"]) if output is None else output.logits
    total = functional.cross_entropy(logits.flatten(end_dim=-2), labels.flatten(), ignore_index=-100, reduction="sum")
    return total, (labels != -100).sum()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", MODEL_SETTINGS)
def test_all_at_once_equals_one_at_a_time(name: str) -> None:
    """A warning would mean that torch runs some operation example by example, or not at all."""
    model, batch = build(name).eval(), make_batch(name)
    at_once, looped = (compute(model, loss, batch) for compute in (example_gradients, looped_example_gradients))
    assert max(float(layer.abs().max()) for layer in looped) > 1e-3
    for ours, wanted, parameter in zip(at_once, looped, trained_parameters(model).values(), strict=True):
        assert ours.shape == (4, *parameter.shape)
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()) + 1e-9)


def test_noise_of_an_example_is_that_of_a_batch_of_one() -> None:
    model, batch = build("gpt2").eval(), make_batch("gpt2")
    reference = reference_gradient(model, loss, [batch], mode="eval")
    chunks = [{name: value[:3] for name, value in batch.items()}, {name: value[3:] for name, value in batch.items()}]
    ours = [torch.cat(layer) for layer in zip(*example_noise(model, loss, chunks, reference, mode="eval"), strict=True)]
    ones = [[{name: value[i : i + 1] for name, value in batch.items()}] for i in range(4)]
    wanted = list(zip(*batch_noise(model, loss, ones, reference, mode="eval"), strict=True))
    for layer, samples in zip(ours, wanted, strict=True):
        torch.testing.assert_close(layer, torch.cat(samples), rtol=1e-4, atol=1e-6)


class BranchingModel(nn.Module):
    """Looks at a number to decide what to compute, which vmap cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.flatten(1))
        return logits if logits.sum() > 0 else 2 * logits


def test_a_model_that_cannot_be_vectorised_is_looped_over() -> None:
    torch.manual_seed(0)
    model = BranchingModel()
    batch = {"images": torch.randn(6, 3, 2, 2), "labels": torch.arange(6) % CLASSES}
    zero = [torch.zeros_like(parameter) for parameter in model.parameters()]
    with pytest.warns(UserWarning, match="one by one") as warned:
        first, second = example_noise(model, loss, [batch, batch], zero)
    assert len(warned) == 1
    for ours, again, wanted in zip(first, second, looped_example_gradients(model, loss, batch), strict=True):
        torch.testing.assert_close(ours, wanted)
        torch.testing.assert_close(again, wanted)


def test_a_mistake_in_the_model_is_not_hidden_by_the_loop() -> None:
    """Catches a fallback that swallows the real error."""
    batch = {"images": torch.randn(2, 3, 4, 4), "labels": torch.zeros(2, dtype=torch.long)}
    with pytest.raises(RuntimeError, match="shapes"), pytest.warns(UserWarning, match="one by one"):
        next(example_noise(BranchingModel(), loss, [batch], []))


def test_batch_norm_puts_single_examples_into_eval_mode() -> None:
    assert example_mode(build("resnet"), "train") == "eval"
    assert example_mode(build("vgg"), "train") == "train"


def test_the_model_is_left_as_it_was() -> None:
    model, batch = build("vgg batch norm").train(), make_batch("vgg batch norm")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    zero = [torch.zeros_like(parameter) for parameter in model.parameters()]
    state = torch.get_rng_state()
    next(example_noise(model, loss, [batch], zero, mode="eval"))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
