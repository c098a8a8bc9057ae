"""The registry: its entries against the classes they describe, what a config may not say, and building."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn
from whyadam.optimizers import OPTIMIZERS, ACClip, build_optimizer
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


class Tilted(torch.optim.SGD):
    """A user's own optimizer."""

    def __init__(self, params, lr, tilt=0.0):
        super().__init__(params, lr)
        self.tilt = tilt


class Named(torch.optim.SGD):
    """Takes pairs of name and parameter, as Adam-mini does, and makes its own groups."""

    def __init__(self, named_parameters, lr):
        groups = [{"params": [parameter], "named": name} for name, parameter in named_parameters]
        super().__init__(groups, lr)


class GroupsAlone(torch.optim.SGD):
    """Takes groups that hold every number, as Muon with Adam beside it does."""

    def __init__(self, param_groups):
        super().__init__(param_groups)


class Unbuildable(torch.optim.SGD):
    def __init__(self, params, lr, tilt):
        raise KeyError("a\nkey")


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))


def build(network, **section):
    return build_optimizer(CHOOSE.validate_python(section), network.named_parameters())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_rule_lowers_a_loss(name):
    network = model()
    needed = {"clip": 0.5} if name in ("gclip", "cclip") else {}
    optimizer = build(network, name=name, lr=0.01, **needed)
    inputs, targets = torch.randn(64, 3), torch.randn(64, 1)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (network(inputs) - targets).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.99 * losses[0]


def test_a_rule_gets_its_hyperparameters_and_what_makes_it_that_rule():
    optimizer = build(model(), name="acclip_rms", lr=0.5, betas=[0.8, 0.9])
    assert type(optimizer) is ACClip
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["alpha"], group["second_moment"]) == (0.5, (0.8, 0.9), 2.0, True)
    assert build(model(), name="acclip").param_groups[0]["second_moment"] is False


def test_globs_choose_what_is_not_decayed():
    network = model()
    optimizer = build(network, name="acclip", weight_decay=0.1, no_weight_decay=["*.bias", "1.*"])
    decayed, spared = optimizer.param_groups
    names = {parameter: name for name, parameter in network.named_parameters()}
    assert [names[parameter] for parameter in decayed["params"]] == ["0.weight", "2.weight"]
    assert [names[parameter] for parameter in spared["params"]] == ["0.bias", "1.weight", "1.bias", "2.bias"]
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)


def test_a_glob_that_matches_nothing_is_a_mistake():
    with pytest.raises(ValueError, match=r"no_weight_decay: 'biases' matches no parameter; one is '0.weight'"):
        build(model(), name="adam", no_weight_decay=["biases"])


def test_frozen_parameters_are_left_out():
    network = model()
    network[0].requires_grad_(False)
    (group,) = build(network, name="sgd").param_groups
    assert len(group["params"]) == 4
    with pytest.raises(ValueError, match="no parameter that requires gradients"):
        build(network.requires_grad_(False), name="sgd")


def test_a_class_of_the_user_gets_parameters_and_keywords():
    optimizer = build(model(), name=f"{__name__}:Tilted", lr=0.5, tilt=0.25)
    assert type(optimizer).__name__ == "Tilted"
    assert (optimizer.param_groups[0]["lr"], optimizer.tilt) == (0.5, 0.25)


def test_a_class_of_the_user_may_take_names():
    optimizer = build(model(), name=f"{__name__}:Named", lr=0.5)
    assert [group["named"] for group in optimizer.param_groups] == [name for name, _ in model().named_parameters()]


def test_a_class_of_the_user_gets_parameter_groups():
    """Each parameter in the first group that names it, the others in one more with the section's own numbers."""
    network = model()
    names = {parameter: name for name, parameter in network.named_parameters()}
    groups = [{"params": ["0.*", "*.bias"], "lr": 0.1, "momentum": 0.5}, {"params": ["1.weight"], "weight_decay": 1}]
    optimizer = build(network, name="torch.optim:SGD", lr=0.5, groups=groups)
    got = [([names[p] for p in group["params"]], group["lr"]) for group in optimizer.param_groups]
    assert got == [(["0.weight", "0.bias", "1.bias", "2.bias"], 0.1), (["1.weight"], 0.5), (["2.weight"], 0.5)]
    assert [group["momentum"] for group in optimizer.param_groups] == [0.5, 0, 0]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0, 1, 0]
    alone = build(network, name=f"{__name__}:GroupsAlone", lr=0.5, groups=groups[:1])
    assert [group["lr"] for group in alone.param_groups] == [0.1, 0.5]
    with pytest.raises(ValueError, match=r"optimizer.groups: biases matches no parameter that is left; there are 0.w"):
        build(network, name="torch.optim:SGD", lr=0.5, groups=[{"params": ["biases"]}])
    with pytest.raises(ValueError, match=r"Named takes named parameters and makes its own groups"):
        build(network, name=f"{__name__}:Named", lr=0.5, groups=groups)


def test_a_class_of_the_user_needs_a_learning_rate():
    """Its own default would show in no folder name and in no table."""
    with pytest.raises(ValueError, match=r"optimizer.lr: missing; give the learning rate of torch.optim:Adamax"):
        build(model(), name="torch.optim:Adamax")
    assert CHOOSE.validate_python({"name": "torch.optim:Adamax"}).model_dump() == {"name": "torch.optim:Adamax"}


def test_muon_of_torch_trains_matrices_and_says_that_it_takes_nothing_else():
    matrices = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False))
    assert type(build(matrices, name="torch.optim:Muon", lr=0.1)).__name__ == "Muon"
    with pytest.raises(ValueError, match=r"torch.optim:Muon refuses its arguments: Muon only supports 2D"):
        build(model(), name="torch.optim:Muon", lr=0.1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{__name__}:Unbuildable", r"Unbuildable cannot be made: 'a\\nkey'"),
        ("torch.optim:Adem", "cannot import 'torch.optim:Adem'"),
        ("no_such_package:Adam", "cannot import 'no_such_package:Adam'"),
        ("torch.optim:Adam", "torch.optim:Adam refuses its arguments: .*tilt"),
        ("builtins:dict", "builtins:dict gave a dict, not a torch Optimizer"),
    ],
)
def test_a_class_that_does_not_work_is_refused_in_one_line(name, message):
    network = nn.ParameterDict({"ab": nn.Parameter(torch.ones(2, 2))})
    with pytest.raises(ValueError, match=message) as refusal:
        build(network, name=name, lr=0.1, tilt=1.0)
    assert "\n" not in str(refusal.value)
