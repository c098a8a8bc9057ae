"""The models are the published ones, and every size can be changed."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from whyadam.models import MODELS, Head


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def build(outputs: int, image_size: int | None = None, task: str = "classification", **section: object) -> nn.Module:
    with torch.device("meta"):
        return MODELS[str(section["name"])].model_validate(section).build(Head(task, outputs, image_size))


@pytest.mark.parametrize(
    ("section", "published"),
    [
        ({"name": "resnet18"}, 11_689_512),
        ({"name": "resnet50"}, 25_557_032),
        ({"name": "vgg16"}, 138_357_544),
        ({"name": "vgg16", "batch_norm": True}, 138_365_992),
        ({"name": "vit_base"}, 86_567_656),
    ],
)
def test_imagenet_models_have_the_published_number_of_parameters(section: dict[str, object], published: int) -> None:
    assert parameters(build(1000, 224, **section)) == published


def test_gpt2_has_the_published_number_of_parameters() -> None:
    """An untied output layer would add 38.6 M."""
    assert parameters(build(50257, task="causal_lm", name="gpt2")) == 124_439_808


@pytest.mark.parametrize(
    ("section", "published"),
    [
        ({"name": "bert_base"}, 109_482_240),
        ({"name": "bert_base", "n_layer": 6}, 109_482_240 - 6 * (12 * 768**2 + 13 * 768)),
        ({"name": "bert_large"}, 335_141_888),
    ],
)
def test_bert_encoders_have_the_published_number_of_parameters(section: dict[str, object], published: int) -> None:
    from transformers import BertModel

    with torch.device("meta"):
        encoder = BertModel(MODELS[str(section["name"])].model_validate(section).hf_config(30522))
    assert parameters(encoder) == published


def test_resnet18_for_small_images_differs_by_its_first_convolution_and_its_classes() -> None:
    """From the ImageNet model: 3 x 3 weights instead of 7 x 7, 10 classes instead of 1000 of 512 weights and a bias."""
    expected = 11_689_512 - 64 * 3 * (7 * 7 - 3 * 3) - (1000 - 10) * 513
    assert expected == 11_173_962
    model = build(10, 32, name="resnet18", stem="small")
    assert parameters(model) == expected
    assert model.conv1.stride == (1, 1)
    assert isinstance(model.maxpool, nn.Identity)


def test_vgg16_for_small_images_has_thirteen_convolutions_and_one_linear_layer() -> None:
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    convolutions = sum(9 * before * after + after for before, after in pairwise(widths))
    assert parameters(build(10, 32, name="vgg16", head="small")) == convolutions + 513 * 10


def test_vgg16_takes_its_stock_head_on_small_images_when_asked() -> None:
    assert parameters(build(1000, 32, name="vgg16", head="imagenet")) == 138_357_544


def test_mlp_widths() -> None:
    assert parameters(build(10, 8, name="mlp", hidden=[7, 5])) == 193 * 7 + 8 * 5 + 6 * 10
    assert parameters(build(10, 8, name="mlp", hidden=[])) == 193 * 10


SIZES = {"n_layer": 3, "n_embd": 24, "n_head": 3, "n_inner": 40}
BLOCKS = 3 * (4 * 24 * 24 + 4 * 24 + 2 * 24 * 40 + 40 + 24 + 4 * 24)


def test_every_size_of_gpt2_can_be_changed() -> None:
    model = build(50, task="causal_lm", name="gpt2_nano", n_positions=20, **SIZES)
    assert parameters(model) == (50 + 20) * 24 + BLOCKS + 2 * 24
    assert {block.attn.num_heads for block in model.transformer.h} == {3}


def test_every_size_of_bert_can_be_changed() -> None:
    model = build(50, task="question_answering", name="bert_nano", n_positions=20, **SIZES)
    assert parameters(model) == (50 + 20 + 2) * 24 + 2 * 24 + BLOCKS + 2 * 25
    assert {layer.attention.self.num_attention_heads for layer in model.bert.encoder.layer} == {3}


def test_every_size_of_vit_can_be_changed() -> None:
    model = build(10, 12, name="vit_nano", patch_size=3, **SIZES)
    assert parameters(model) == (3 * 9 + 1) * 24 + 24 + (16 + 1) * 24 + BLOCKS + 2 * 24 + 25 * 10
    assert {layer.self_attention.num_heads for layer in model.encoder.layers} == {3}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("vit_nano", (4, 128, 2, 512)),
        ("vit_base", (12, 768, 12, 3072)),
        ("gpt2_nano", (6, 384, 6, 1536)),
        ("gpt2", (12, 768, 12, 3072)),
        ("bert_nano", (4, 128, 2, 512)),
        ("bert_base", (12, 768, 12, 3072)),
        ("bert_large", (24, 1024, 16, 4096)),
    ],
)
def test_presets(name: str, sizes: tuple[int, ...]) -> None:
    settings = MODELS[name]()
    assert (settings.n_layer, settings.n_embd, settings.n_head, settings.n_inner) == sizes


def test_context_lengths() -> None:
    lengths = {name: entry().context_length() for name, entry in MODELS.items()}
    texts = {"gpt2_nano": 256, "gpt2": 1024, "bert_nano": 512, "bert_base": 512, "bert_large": 512}
    assert lengths == {name: texts.get(name) for name in MODELS}
    assert MODELS["gpt2"](n_positions=99).context_length() == 99


def test_heads_and_inner_width_follow_the_width() -> None:
    """The design's own example: 6 heads do not divide 128 dimensions."""
    settings = MODELS["gpt2_nano"].model_validate({"name": "gpt2_nano", "n_layer": 4, "n_embd": 128})
    assert (settings.n_head, settings.n_inner) == (2, 512)
    assert settings.model_dump()["n_head"] == 2


@pytest.mark.parametrize(("n_embd", "heads"), [(7, 1), (64, 1), (127, 1), (200, 2), (320, 5), (448, 7)])
def test_heads_that_are_not_given_always_divide_the_width(n_embd: int, heads: int) -> None:
    """200 // 64 is 3, which does not divide 200."""
    assert MODELS["gpt2_nano"](n_embd=n_embd).n_head == heads


@pytest.mark.parametrize("name", ["vgg16", "vit", "gpt2", "bert"])
def test_the_dropout_key_reaches_every_dropout(tiny_named, name: str) -> None:
    model = tiny_named(name, dropout=0.25).build()
    rates = {module.p for module in model.modules() if isinstance(module, nn.Dropout)}
    rates |= {module.dropout for module in model.modules() if isinstance(module, nn.MultiheadAttention)}
    assert rates == {0.25}
