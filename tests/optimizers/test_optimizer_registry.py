"""The registry's lines against the classes they describe, and what a config may not say."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError
from whyadam.optimizers import OPTIMIZERS
from whyadam.optimizers.registry import HYPERPARAMETERS, REQUIRED, rule
from whyadam.settings import import_by_name

CHOOSE = TypeAdapter(OPTIMIZERS.as_field())
NEEDED = {"gclip": {"lr": 0.1, "clip": 1.0}, "cclip": {"lr": 0.1, "clip": 1.0}}
NEEDED |= {"signum": {"lr": 0.1}, "normalized_sgd": {"lr": 0.1}}
DIFFERENT_ON_PURPOSE = {("acclip_rms", "alpha")}


def choose(name, **values):
    return CHOOSE.validate_python({"name": name} | NEEDED.get(name, {}) | values)


def test_every_rule_is_there():
    expected = ["sgd", "adam", "adamw", "gclip", "cclip", "acclip", "acclip_rms", "signum", "normalized_sgd"]
    assert list(OPTIMIZERS) == expected


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_defaults_are_those_of_the_class(name):
    """Catches a default that drifts, and a required hyperparameter that has one."""
    settings = OPTIMIZERS[name]
    signature = inspect.signature(import_by_name(settings.target)).parameters
    for field in settings.model_fields.keys() - {"name", "no_weight_decay"}:
        of_class, of_registry = signature[field].default, settings.model_fields[field]
        if (name, field) in DIFFERENT_ON_PURPOSE:
            assert of_class != of_registry.default
        elif of_registry.is_required():
            assert of_class is inspect.Parameter.empty
        else:
            assert of_registry.default == of_class
    assert settings.fixed.keys() <= signature.keys()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_rule_says_what_it_is_and_where_it_is_from(name):
    assert len(OPTIMIZERS[name].summary()) > 20
    assert any(character.isdigit() for character in OPTIMIZERS[name].paper)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_config_needs_no_more_than_what_has_no_default(name):
    assert choose(name).arguments().keys() >= {"lr", "weight_decay"}
    for key in NEEDED.get(name, {}):
        with pytest.raises(ValidationError) as refusal:
            CHOOSE.validate_python({"name": name} | {k: v for k, v in NEEDED[name].items() if k != key})
        assert refusal.value.errors()[0]["loc"][-1] == key


def test_numbers_written_as_text_are_numbers():
    """YAML reads 1e-3 as a text."""
    settings = choose("acclip", lr="1e-3", betas=["0.8", "0.9"], fused="true")
    assert settings.arguments()["lr"] == 1e-3
    assert settings.arguments()["betas"] == (0.8, 0.9)
    assert settings.arguments()["fused"] is True


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("acclip", "alpha", 3),
        ("acclip", "betas", [0.9]),
        ("acclip", "eps", -1e-5),
        ("adam", "lr", 0),
        ("adam", "lr", "fast"),
        ("gclip", "clip", 0),
        ("gclip", "clip", float("inf")),
        ("sgd", "momentum", 1.0),
        ("sgd", "nesterov", True),
        ("adamw", "weight_decay", -0.1),
    ],
)
def test_a_wrong_value_is_refused_at_its_key(name, key, value):
    with pytest.raises(ValidationError) as refusal:
        choose(name, **{key: value})
    assert {error["loc"][0] for error in refusal.value.errors()} == {key}


def test_nesterov_with_momentum_is_fine():
    assert choose("sgd", nesterov=True, momentum=0.9).arguments()["nesterov"] is True


@pytest.mark.parametrize("key", ["mometum", "second_moment", "params"])
def test_an_unknown_hyperparameter_is_refused(key):
    with pytest.raises(ValidationError, match="unknown key"):
        choose("acclip_rms", **{key: 1})


def test_a_rule_without_weight_decay_refuses_to_spare_weights():
    bare = rule("bare", "torch.optim:Rprop", "A rule without weight decay.", "1992", lr=REQUIRED)
    with pytest.raises(ValidationError) as refusal:
        bare(lr=0.1, no_weight_decay=["*.bias"])
    assert refusal.value.errors()[0]["loc"] == ("no_weight_decay",)


def test_a_hyperparameter_must_be_in_the_table():
    """A new name is given its type once, for all rules."""
    assert "temperature" not in HYPERPARAMETERS
    with pytest.raises(KeyError, match="temperature"):
        rule("hot", "torch.optim:SGD", "A rule.", "2024", temperature=1.0)


def test_checking_a_config_imports_no_torch():
    lines = [
        "import sys, whyadam.optimizers, whyadam.optimizers.registry as registry",
        "from pydantic import TypeAdapter",
        "choose = TypeAdapter(registry.OPTIMIZERS.as_field()).validate_python",
        "choose({'name': 'acclip', 'lr': 1.0}); choose({'name': 'some.module:Class', 'lr': 1.0})",
        "assert 'torch' not in sys.modules",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
