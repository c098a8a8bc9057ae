"""What every optimizer of the registry says about itself before it is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ValidationInfo, field_validator

from ..settings import CustomSettings, NamedSettings


class OptimizerSettings(NamedSettings):
    """An update rule with its hyperparameters; ``registry.rule`` makes one subclass a rule.

    Attributes:
        target: the class that is built, as ``module:Class``.
        fixed: keyword arguments of that class that make it this rule and that a config cannot change.
        lr: learning rate.
        no_weight_decay: names of parameters, as globs such as ``*.bias``, whose weights are not decayed.
    """

    target: ClassVar[str] = ""
    fixed: ClassVar[Mapping[str, Any]] = {}

    lr: float
    no_weight_decay: tuple[str, ...] = ()

    @field_validator("no_weight_decay")
    @classmethod
    def _needs_weight_decay(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and "weight_decay" not in cls.model_fields:
            raise ValueError(f"{cls.registry_name()} has no weight_decay that could be left out")
        return value

    @field_validator("nesterov", check_fields=False)
    @classmethod
    def _needs_momentum(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("momentum") == 0:
            raise ValueError("needs a momentum above 0")
        return value

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments for the optimizer's class."""
        hyperparameters = type(self).model_fields.keys() - {"name", "no_weight_decay"}
        return {name: getattr(self, name) for name in sorted(hyperparameters)} | dict(self.fixed)


class CustomOptimizer(CustomSettings):
    """A user's own optimizer class; it gets the parameters and the other keys of its section as keyword arguments."""
