"""The ranges of our rules' hyperparameters, checked for every parameter group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_LIMITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "lr": (lambda value: value >= 0, "at least 0"),
    "clip": (lambda value: value > 0, "above 0"),
    "momentum": (lambda value: 0 <= value < 1, "in [0, 1)"),
    "betas": (lambda value: len(value) == 2 and all(0 <= beta < 1 for beta in value), "two numbers in [0, 1)"),
    "eps": (lambda value: value >= 0, "at least 0"),
    "alpha": (lambda value: 1 <= value <= 2, "in [1, 2]"),
    "weight_decay": (lambda value: value >= 0, "at least 0"),
}


def check_group(group: dict[str, Any]) -> None:
    """Refuse a parameter group that no rule can work with.

    Raises:
        ValueError: a hyperparameter is out of its range, or both foreach and fused are asked for.
    """
    for name, (allows, words) in _LIMITS.items():
        if name in group and not allows(group[name]):
            raise ValueError(f"{name} must be {words}, not {group[name]}")
    if group["foreach"] and group["fused"]:
        raise ValueError("foreach and fused exclude each other: choose one")
