"""From settings to a torch optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..errors import UserError
from ..settings import import_by_name
from .registry import CustomOptimizer, OptimizerSettings


def build_optimizer(
    settings: OptimizerSettings | CustomOptimizer, named_parameters: Iterable[tuple[str, nn.Parameter]]
) -> Optimizer:
    """The optimizer of ``settings`` over the parameters that require gradients.

    Args:
        settings: a rule of the registry, or a user's own class.
        named_parameters: as ``model.named_parameters()`` gives them.

    Raises:
        UserError: there is nothing to train, a glob of ``no_weight_decay`` matches no parameter, or the user's own
            class cannot be imported, refuses its arguments or is no optimizer.
    """
    trainable = {name: parameter for name, parameter in named_parameters if parameter.requires_grad}
    if not trainable:
        raise UserError("optimizer: the model has no parameter that requires gradients")
    if isinstance(settings, CustomOptimizer):
        return _build_custom(settings, list(trainable.values()))
    optimizer: Optimizer = import_by_name(settings.target)(_groups(settings, trainable), **settings.arguments())
    return optimizer


def _groups(settings: OptimizerSettings, trainable: dict[str, nn.Parameter]) -> list[dict[str, Any]]:
    """One group, or two when some weights are not decayed."""
    spared: set[str] = set()
    for glob in settings.no_weight_decay:
        matches = {name for name in trainable if fnmatchcase(name, glob)}
        if not matches:
            raise UserError(
                f"optimizer.no_weight_decay: {glob!r} matches no parameter; one is {next(iter(trainable))!r}"
            )
        spared |= matches
    groups: list[dict[str, Any]] = [
        {"params": [parameter for name, parameter in trainable.items() if name not in spared]},
        {"params": [parameter for name, parameter in trainable.items() if name in spared], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _build_custom(settings: CustomOptimizer, parameters: list[nn.Parameter]) -> Optimizer:
    optimizer = settings.create(parameters)
    if not isinstance(optimizer, Optimizer):
        raise UserError(f"optimizer.name: {settings.name} gave a {type(optimizer).__name__}, not a torch Optimizer")
    return optimizer
