"""What does not fit is refused in one line that names the key, and without importing anything heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError
from torch import nn
from whyadam.models import MODELS, Head
from whyadam.models.base import CustomModel


def test_import_and_settings_need_no_torch() -> None:
    """Otherwise `whyadam validate` and `whyadam list` take seconds."""
    code = (
        "import sys; from whyadam.models import MODELS; settings = [entry() for _, entry in MODELS.items()];"
        "print({'torch', 'torchvision', 'transformers', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_model_says_what_it_is() -> None:
    for name, entry in MODELS.items():
        assert entry.registry_name() == entry().name == name
        assert entry.paper
        assert entry.summary().endswith(".")
        assert entry.tasks


@pytest.mark.parametrize("name", list(MODELS))
def test_unknown_keys_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="n_layers"):
        MODELS[name].model_validate({"name": name, "n_layers": 2})


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"name": "gpt2_nano", "n_layer": 0}, "n_layer"),
        ({"name": "gpt2_nano", "n_layer": "four"}, "n_layer"),
        ({"name": "gpt2_nano", "n_embd": "wide", "n_head": 3}, "n_embd"),
        ({"name": "gpt2_nano", "dropout": 1}, "dropout"),
        ({"name": "gpt2_nano", "dropout": -0.1}, "dropout"),
        ({"name": "bert_nano", "attention": "flash"}, "attention"),
        ({"name": "bert_nano", "pretrained": ""}, "pretrained"),
        ({"name": "vit_nano", "patch_size": 0}, "patch_size"),
        ({"name": "vgg16", "head": "big"}, "head"),
        ({"name": "resnet18", "layers": [2, 2, 2]}, "layers"),
        ({"name": "mlp", "hidden": [0]}, "hidden"),
    ],
)
def test_wrong_values_are_refused_by_key(section: dict[str, object], key: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        MODELS[str(section["name"])].model_validate(section)
    assert {error["loc"][0] for error in refusal.value.errors()} == {key}


def test_numbers_written_as_text_are_numbers() -> None:
    settings = MODELS["gpt2_nano"].model_validate({"name": "gpt2_nano", "n_layer": "4", "dropout": "1e-1"})
    assert (settings.n_layer, settings.dropout) == (4, 0.1)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValidationError, match="6 does not divide n_embd, 128; leave n_head out for 2") as refusal:
        MODELS["gpt2_nano"](n_embd=128, n_head=6)
    assert refusal.value.errors()[0]["loc"] == ("n_head",)


def test_vgg16_must_be_told_its_head_on_small_images() -> None:
    refusal = MODELS["vgg16"]().refuse_images(32)
    assert refusal is not None
    assert refusal.startswith("model.head: ")
    assert "\n" not in refusal
    assert MODELS["vgg16"]().refuse_images(224) is None
    assert MODELS["vgg16"](head="small").refuse_images(32) is None
    assert MODELS["vgg16"](head="imagenet").refuse_images(32) is None


@pytest.mark.parametrize("head", [None, "small", "imagenet"])
def test_vgg16_refuses_images_that_its_poolings_use_up(head: str | None) -> None:
    """28 pixels halved five times are none; torch would fail in the middle of the network."""
    assert "32 pixels, not 28" in str(MODELS["vgg16"](head=head).refuse_images(28))


def test_vit_refuses_images_that_patches_do_not_fill() -> None:
    assert str(MODELS["vit_base"]().refuse_images(100)).startswith("model.patch_size: 16 does not divide")
    assert MODELS["vit_base"]().refuse_images(224) is None
    assert MODELS["vit_nano"]().refuse_images(28) is None


@pytest.mark.parametrize(
    ("name", "head", "line"),
    [
        (
            "resnet18",
            Head("causal_lm", 10),
            "task.name: the model resnet18 cannot do causal_lm; it can do classification",
        ),
        ("gpt2_nano", Head("classification", 10, 32), "it can do causal_lm"),
        ("gpt2_nano", Head("masked_lm", 10), "it can do causal_lm"),
        ("bert_nano", Head("causal_lm", 10), "it can do masked_lm, question_answering"),
        ("vgg16", Head("classification", 10, 32), "^model.head: "),
        ("vit_nano", Head("classification", 10, 30), "^model.patch_size: "),
        ("vit_nano", Head("classification", 10), "^model.name: vit_nano must know the size"),
        ("mlp", Head("classification", 10), "^model.name: mlp must know the size"),
    ],
)
def test_build_refuses_a_head_that_does_not_fit(name: str, head: Head, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        MODELS[name]().build(head)


def test_a_users_own_model_is_called_with_the_other_keys() -> None:
    section = {"name": "torch.nn:Linear", "in_features": 3, "out_features": 2}
    settings = MODELS.choose(section)
    assert isinstance(settings, CustomModel)
    model = settings.build(Head("classification", 2, 1))
    assert isinstance(model, nn.Linear)
    assert model.weight.shape == (2, 3)


def test_a_users_own_model_must_be_a_module() -> None:
    with pytest.raises(ValueError, match=r"gave a OrderedDict, not a torch\.nn\.Module"):
        CustomModel(name="collections:OrderedDict").build(Head("classification", 2, 1))
