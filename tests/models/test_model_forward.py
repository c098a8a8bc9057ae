"""Each architecture runs forward and backward as tasks call it, and starts where the seed says."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy
from whyadam.models import MODELS, Head


def test_outputs_have_the_shape_of_the_head(tiny) -> None:
    logits = tiny.logits(tiny.build())
    outputs = 2 if tiny.head.task == "question_answering" else tiny.head.outputs
    first = next(iter(tiny.batch.values()))
    expected = first.shape[:1] if tiny.head.task == "classification" else first.shape
    assert logits.shape == (*expected, outputs)


def test_the_loss_reaches_every_parameter(tiny) -> None:
    """A layer that is built and not used would have no gradient, and a zero spectrum later."""
    model = tiny.build()
    with torch.no_grad():  # torchvision's ViT starts its classifier at zero, which hides everything before it
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    logits = tiny.logits(model).flatten(0, -2)
    cross_entropy(logits, torch.arange(len(logits)) % logits.shape[-1]).backward()
    unused = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert unused == []


def test_the_same_seed_gives_the_same_weights(tiny) -> None:
    first, second = tiny.build().state_dict(), tiny.build().state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_gives_other_weights(tiny) -> None:
    first = tiny.build().state_dict()
    torch.manual_seed(2)
    second = tiny.settings.build(tiny.head).state_dict()
    matrices = [name for name, tensor in first.items() if tensor.dim() > 1]
    assert any(not torch.equal(first[name], second[name]) for name in matrices)


def test_building_and_calling_print_nothing(tiny, capfd: pytest.CaptureFixture[str]) -> None:
    """Transformers warns of token ids outside the vocabulary, for one."""
    tiny.logits(tiny.build())
    assert capfd.readouterr() == ("", "")


def test_models_come_in_training_mode(tiny) -> None:
    assert all(module.training for module in tiny.build().modules())


@pytest.mark.parametrize("head", ["small", "imagenet"])
def test_vgg_is_initialised_alike_with_either_head(head: str) -> None:
    """A head swapped in must not leave torch's default initialisation, with which 13 plain convolutions die out."""
    torch.manual_seed(0)
    model = MODELS["vgg16"](head=head, layers=(1, 1, 1, 1, 1)).build(Head("classification", 100, 32))
    convolution = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)][2]
    linear = model.classifier[-1]
    assert convolution.weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not convolution.bias.any()
    assert not linear.bias.any()


def test_small_resnet_stem_is_initialised_as_the_other_convolutions() -> None:
    torch.manual_seed(0)
    model = MODELS["resnet18"](stem="small").build(Head("classification", 10, 32))
    assert model.conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)


def test_small_resnet_stem_keeps_the_size_of_the_image() -> None:
    model = MODELS["resnet18"](stem="small").build(Head("classification", 10, 32))
    assert model.maxpool(model.conv1(torch.zeros(1, 3, 32, 32))).shape == (1, 64, 32, 32)


def test_vgg_with_stock_head_runs_on_small_images_when_asked() -> None:
    settings = MODELS["vgg16"](head="imagenet", layers=(1, 1, 1, 1, 1))
    with torch.device("meta"):
        assert settings.build(Head("classification", 10, 32))(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
