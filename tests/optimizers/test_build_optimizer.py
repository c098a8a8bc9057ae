"""From settings to optimizers over a model's parameters."""

from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn
from whyadam.optimizers import OPTIMIZERS, ACClip, build_optimizer

CHOOSE = TypeAdapter(OPTIMIZERS.as_field())


class Tilted(torch.optim.SGD):
    """A user's own optimizer."""

    def __init__(self, params, lr, tilt=0.0):
        super().__init__(params, lr)
        self.tilt = tilt


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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch.optim:Adem", "cannot import 'torch.optim:Adem'"),
        ("no_such_package:Adam", "cannot import 'no_such_package:Adam'"),
        ("torch.optim:Adam", "torch.optim:Adam refuses its arguments: .*tilt"),
        ("builtins:dict", "builtins:dict gave a dict, not a torch Optimizer"),
    ],
)
def test_a_class_that_does_not_work_is_refused_in_one_line(name, message):
    network = nn.ParameterDict({"ab": nn.Parameter(torch.ones(2, 2))})
    with pytest.raises(ValueError, match=message) as refusal:
        build(network, name=name, tilt=1.0)
    assert "\n" not in str(refusal.value)
