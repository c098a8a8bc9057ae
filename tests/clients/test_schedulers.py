"""Every scheduler of torch: a rule of ours follows it as torch's own optimizers do, in learning rate and momentum."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler, swa_utils
from torch.optim.lr_scheduler import LRScheduler
from whyadam.optimizers import CClip

ARGUMENTS: dict[str, dict[str, Any]] = {
    "ConstantLR": {"factor": 0.5, "total_iters": 2},
    "CosineAnnealingLR": {"T_max": 4},
    "CosineAnnealingWarmRestarts": {"T_0": 3},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 2},
    "ExponentialLR": {"gamma": 0.5},
    "LambdaLR": {"lr_lambda": lambda step: 1 / (1 + step)},
    "LinearLR": {"total_iters": 4},
    "MultiStepLR": {"milestones": [1, 3]},
    "MultiplicativeLR": {"lr_lambda": lambda step: 0.5},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 8},
    "PolynomialLR": {"total_iters": 4},
    "ReduceLROnPlateau": {"patience": 0},
    "StepLR": {"step_size": 2},
    "SWALR": {"swa_lr": 0.01, "anneal_epochs": 3},
}
COMBINATIONS = ("ChainedScheduler", "SequentialLR")
MOVES_MOMENTUM = ("CyclicLR", "OneCycleLR")
ENOUGH_RULES = ["gclip", "acclip", "signum", "cclip, fused", "acclip, fused"]
"""One of each kind that reads learning rate and momentum in its own way."""

SCHEDULED = ("lr", "momentum", "betas")


def known_to_torch() -> dict[str, type]:
    """The public subclasses of ``LRScheduler``."""
    members = [*vars(lr_scheduler).items(), *vars(swa_utils).items()]
    return {
        name: member
        for name, member in members
        if inspect.isclass(member) and issubclass(member, LRScheduler) and name != "LRScheduler" and name[0] != "_"
    }


def schedule(name: str, optimizer: torch.optim.Optimizer) -> Any:
    """The scheduler of that name, with arguments under which it changes something in six steps."""
    if name in ARGUMENTS:
        return known_to_torch()[name](optimizer, **ARGUMENTS[name])
    parts = [lr_scheduler.ConstantLR(optimizer, 0.5, 2), lr_scheduler.ExponentialLR(optimizer, 0.5)]
    if name == "ChainedScheduler":
        return lr_scheduler.ChainedScheduler(parts)
    return lr_scheduler.SequentialLR(optimizer, parts, milestones=[2])


def advance(scheduler: Any) -> None:
    """One step; a plateau is told that nothing gets better."""
    scheduler.step(*([1.0] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else []))


def scheduled(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {name: optimizer.param_groups[0][name] for name in SCHEDULED if name in optimizer.param_groups[0]}


def weight() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.linspace(-1, 1, 6))


def step(optimizer: torch.optim.Optimizer, number: int) -> None:
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.randn(6, generator=torch.Generator().manual_seed(number))
    optimizer.step()


def torch_twin(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """An optimizer of torch's own with the same learning rate and momentum."""
    settings = scheduled(optimizer)
    return (torch.optim.Adam if "betas" in settings else torch.optim.SGD)([weight()], **settings)


def test_every_scheduler_is_tried() -> None:
    """A scheduler that a new version of torch brings."""
    assert set(known_to_torch()) == {*ARGUMENTS, *COMBINATIONS}


@pytest.mark.parametrize("make", ENOUGH_RULES, indirect=True)
@pytest.mark.parametrize("name", [*ARGUMENTS, *COMBINATIONS])
def test_a_rule_follows_the_schedule(name: str, make) -> None:
    """Catches a learning rate, a momentum or betas that are read once and kept."""
    followed, by_hand = weight(), weight()
    optimizer, reference = make([followed]), make([by_hand])
    twin = torch_twin(optimizer)
    scheduler, scheduler_of_twin = schedule(name, optimizer), schedule(name, twin)
    seen = []
    for number in range(6):
        seen.append(scheduled(twin))
        reference.param_groups[0].update(seen[-1])
        step(optimizer, number)
        step(reference, number)
        assert torch.equal(followed, by_hand)
        step(twin, number)
        advance(scheduler)
        advance(scheduler_of_twin)
    assert scheduled(optimizer) == scheduled(twin)
    assert len({settings["lr"] for settings in seen}) > 1
    moves = len({str(settings.get("momentum", settings.get("betas"))) for settings in seen}) > 1
    assert moves == (name in MOVES_MOMENTUM)


@pytest.mark.parametrize("make", ENOUGH_RULES, indirect=True)
@pytest.mark.parametrize("name", ["OneCycleLR", "CosineAnnealingLR", "SequentialLR"])
def test_a_schedule_is_saved_and_goes_on(name: str, make) -> None:
    """Catches a scheduler that loads its place but not the learning rate and the momentum of that place."""
    whole = weight()
    optimizer = make([whole])
    scheduler = schedule(name, optimizer)
    for number in range(6):
        if number == 3:
            saved = copy.deepcopy((whole.data, optimizer.state_dict(), scheduler.state_dict()))
        step(optimizer, number)
        advance(scheduler)

    continued = torch.nn.Parameter(saved[0])
    optimizer = make([continued])
    scheduler = schedule(name, optimizer)
    optimizer.load_state_dict(saved[1])
    scheduler.load_state_dict(saved[2])
    for number in range(3, 6):
        step(optimizer, number)
        advance(scheduler)
    assert torch.equal(whole, continued)


@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}], ids=str)
def test_a_momentum_that_touches_zero(options: dict[str, bool]) -> None:
    """By the formula v ← momentum · v + clip(g), whichever way a step is taken and whenever a gradient comes first."""
    early, late = weight(), weight()
    optimizer = CClip([early, late], lr=0.1, clip=0.5, momentum=0.9, **options)
    values, buffers = [early.detach().clone(), late.detach().clone()], [torch.zeros(6), torch.zeros(6)]
    for number, momentum in enumerate([0.9, 0.0, 0.0, 0.45, 0.9]):
        optimizer.param_groups[0]["momentum"] = momentum
        gradient = torch.randn(6, generator=torch.Generator().manual_seed(number))
        early.grad, late.grad = gradient, gradient if number > 1 else None
        optimizer.step()
        for value, buffer, parameter in zip(values, buffers, (early, late), strict=True):
            if parameter.grad is not None:
                buffer.mul_(momentum).add_(gradient.clamp(-0.5, 0.5))
                value -= 0.1 * buffer
    torch.testing.assert_close([early.data, late.data], values, rtol=1e-6, atol=1e-6)
