"""Every optimizer that a config can name, its hyperparameters, and how it is built; torch is imported only for that.

A new optimizer is a file with its class and an entry of ``OPTIMIZERS``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)

from ..errors import UserError
from ..settings import CustomSettings, NamedSettings, Registry, Settings, import_by_name

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


LARGEST = 1e30
"""Of a hyperparameter. Every rule diverges long before; products of larger numbers may not fit into float32."""

Decay = Annotated[float, Field(ge=0, lt=1)]
"""How much of a running average or a momentum is kept from one step to the next."""

Positive = Annotated[float, Field(gt=0, le=LARGEST)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST)]


class OptimizerSettings(NamedSettings):
    """An update rule with its hyperparameters; ``rule`` makes one subclass per rule.

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


class Group(Settings):
    """Some parameters with keyword arguments of their own; every other key goes into the optimizer's group.

    Attributes:
        params: names of parameters, as globs such as ``*.weight``.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    params: tuple[str, ...]


class CustomOptimizer(CustomSettings):
    """A user's own optimizer class; it gets the parameters and the other keys of its section as keyword arguments.

    A class whose first argument is ``named_parameters`` gets pairs of name and parameter.

    Attributes:
        lr: learning rate; needed to train, so that it stands in folder names and tables.
        groups: parameter groups; a parameter belongs to the first that names it, and the rest form one more.
    """

    lr: Positive | None = None
    groups: tuple[Group, ...] = ()

    @model_validator(mode="after")
    def _refuse_huge_numbers(self) -> CustomOptimizer:
        for keywords in (self.arguments, *(group.model_extra or {} for group in self.groups)):
            for key, value in keywords.items():
                if isinstance(value, float) and abs(value) > LARGEST:
                    raise ValueError(f"{key} should be at most {LARGEST:g}, got {value:g}")
        return self

    @model_serializer(mode="wrap")
    def _as_given(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unset = {"lr", "groups"} - self.model_fields_set
        return {key: value for key, value in serialize(self).items() if key not in unset}

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that the config gives to the class."""
        return ({"lr": self.lr} if "lr" in self.model_fields_set else {}) | super().arguments


HYPERPARAMETERS: dict[str, Any] = {
    "lr": Positive,
    "clip": Positive,
    "momentum": Decay,
    "nesterov": bool,
    "betas": tuple[Decay, Decay],
    "eps": NotNegative,
    "alpha": Annotated[float, Field(ge=1, le=2)],
    "amsgrad": bool,
    "weight_decay": NotNegative,
    "foreach": bool | None,
    "fused": bool | None,
}
"""Type and range of each hyperparameter, by the name that PyTorch and the papers give it."""

REQUIRED: Any = ...
"""In place of a default: the config must give the hyperparameter."""


def rule(
    name: str, target: str, summary: str, paper: str, *, fixed: Mapping[str, Any] | None = None, **defaults: Any
) -> type[OptimizerSettings]:
    """The settings class of one update rule.

    Args:
        name: what a config writes to choose it.
        target: its class, as ``module:Class``.
        summary: one line that says what it does.
        paper: where it comes from.
        fixed: keyword arguments of the class that a config cannot change.
        defaults: its hyperparameters, all of them listed in ``HYPERPARAMETERS``, with the class's own defaults.
    """
    fields: dict[str, Any] = {key: (HYPERPARAMETERS[key], default) for key, default in defaults.items()}
    fields["name"] = (Literal[name], name)
    settings = create_model(
        f"{target.partition(':')[2]}Settings",
        __base__=OptimizerSettings,
        __doc__=summary,
        __module__=__name__,
        **fields,
    )
    settings.paper, settings.target, settings.fixed = paper, target, fixed or {}
    return settings


_IMPLEMENTATION: dict[str, Any] = {"foreach": None, "fused": None}

_ZHANG = "Zhang et al., Why are Adaptive Methods Good for Attention Models?, NeurIPS 2020, arXiv:1912.03194"

OPTIMIZERS: Registry[OptimizerSettings] = Registry(
    "optimizer",
    [
        rule(
            "sgd",
            "torch.optim:SGD",
            "Stochastic gradient descent, with momentum if asked (torch's own; weight decay is an L2 penalty).",
            "Robbins & Monro, Annals of Mathematical Statistics 1951; momentum: Polyak 1964",
            lr=1e-3,
            momentum=0.0,
            nesterov=False,
            weight_decay=0.0,
            **_IMPLEMENTATION,
        ),
        rule(
            "adam",
            "torch.optim:Adam",
            "Averaged gradient over root mean square gradient (torch's own; weight decay is an L2 penalty).",
            "Kingma & Ba, ICLR 2015, arXiv:1412.6980",
            lr=1e-3,
            betas=(0.9, 0.999),
            eps=1e-8,
            amsgrad=False,
            weight_decay=0.0,
            **_IMPLEMENTATION,
        ),
        rule(
            "adamw",
            "torch.optim:AdamW",
            "Adam with decoupled weight decay (torch's own).",
            "Loshchilov & Hutter, ICLR 2019, arXiv:1711.05101",
            lr=1e-3,
            betas=(0.9, 0.999),
            eps=1e-8,
            amsgrad=False,
            weight_decay=0.01,
            **_IMPLEMENTATION,
        ),
        rule(
            "gclip",
            "whyadam.optimizers.clipped_sgd:GClip",
            "SGD on the gradient scaled down to a global norm of at most clip, with momentum if asked.",
            f"{_ZHANG}; norm clipping: Pascanu et al., ICML 2013, arXiv:1211.5063",
            lr=REQUIRED,
            clip=REQUIRED,
            momentum=0.0,
            weight_decay=0.0,
            **_IMPLEMENTATION,
        ),
        rule(
            "cclip",
            "whyadam.optimizers.clipped_sgd:CClip",
            "SGD on the gradient with each coordinate clamped to [-clip, clip], with momentum if asked.",
            _ZHANG,
            lr=REQUIRED,
            clip=REQUIRED,
            momentum=0.0,
            weight_decay=0.0,
            **_IMPLEMENTATION,
        ),
        rule(
            "acclip",
            "whyadam.optimizers.acclip:ACClip",
            "Momentum clipped per coordinate at a cap that follows the gradient's size.",
            _ZHANG,
            lr=1e-3,
            betas=(0.9, 0.99),
            eps=1e-5,
            alpha=1.0,
            weight_decay=0.0,
            **_IMPLEMENTATION,
        ),
        rule(
            "acclip_rms",
            "whyadam.optimizers.acclip:ACClip",
            "ACClip divided once more by the root mean square, as public code has it: nearly Adam at alpha = 2.",
            f"{_ZHANG}; the second division is public code's, which also has an L2 penalty of 1e-5 by default",
            fixed={"second_moment": True},
            lr=1e-3,
            betas=(0.9, 0.99),
            eps=1e-5,
            alpha=2.0,
            weight_decay=0.0,
            **_IMPLEMENTATION,
        ),
        rule(
            "signum",
            "whyadam.optimizers.normalized:Signum",
            "The sign of the averaged gradient; sign descent at momentum = 0.",
            "Bernstein et al., ICML 2018, arXiv:1802.04434",
            lr=REQUIRED,
            momentum=0.9,
            weight_decay=0.0,
            **_IMPLEMENTATION,
        ),
        rule(
            "normalized_sgd",
            "whyadam.optimizers.normalized:NormalizedSGD",
            "The averaged gradient divided by its global norm: every step has length lr.",
            "Cutkosky & Mehta, ICML 2020, arXiv:2002.03305; Hazan et al., NeurIPS 2015, arXiv:1507.02030",
            lr=REQUIRED,
            momentum=0.9,
            weight_decay=0.0,
            **_IMPLEMENTATION,
        ),
    ],
    custom=CustomOptimizer,
)


def build_optimizer(
    settings: OptimizerSettings | CustomOptimizer, named_parameters: Iterable[tuple[str, nn.Parameter]]
) -> Optimizer:
    """The optimizer of ``settings`` over the parameters that require gradients.

    Args:
        settings: a rule of the registry, or a user's own class.
        named_parameters: as ``model.named_parameters()`` gives them.

    Raises:
        UserError: there is nothing to train, a glob of ``no_weight_decay`` matches no parameter, or the user's own
            class cannot be imported, fails, has no lr or is no optimizer.
    """
    trainable = {name: parameter for name, parameter in named_parameters if parameter.requires_grad}
    if not trainable:
        raise UserError("optimizer: the model has no parameter that requires gradients")
    if isinstance(settings, CustomOptimizer):
        return _build_custom(settings, trainable)
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


def _build_custom(settings: CustomOptimizer, trainable: dict[str, nn.Parameter]) -> Optimizer:
    from torch.optim import Optimizer

    if "lr" not in settings.model_fields_set:
        raise UserError(f"optimizer.lr: missing; give the learning rate of {settings.name}")
    signature: Mapping[str, inspect.Parameter] = {}
    with suppress(TypeError, ValueError):  # made in C, or not callable at all
        signature = inspect.signature(import_by_name(settings.name)).parameters
    first = next(iter(signature), "")
    parameters: Any = list(trainable.values())
    if first.startswith("named"):
        if settings.groups:
            raise UserError(f"optimizer.groups: {settings.name} takes named parameters and makes its own groups")
        parameters = list(trainable.items())
    elif settings.groups or first == "param_groups":
        parameters = _custom_groups(settings, trainable)
        if signature and "lr" not in signature and all(p.kind is not p.VAR_KEYWORD for p in signature.values()):
            parameters = [{"lr": settings.lr} | group for group in parameters]
            settings = settings.model_construct(name=settings.name, **settings.model_extra or {})
    optimizer = settings.create(parameters)
    if not isinstance(optimizer, Optimizer):
        raise UserError(f"optimizer.name: {settings.name} gave a {type(optimizer).__name__}, not a torch Optimizer")
    return optimizer


def _custom_groups(settings: CustomOptimizer, trainable: dict[str, nn.Parameter]) -> list[dict[str, Any]]:
    rest = dict(trainable)
    groups = []
    for group in settings.groups:
        chosen = [name for name in rest if any(fnmatchcase(name, glob) for glob in group.params)]
        if not chosen:
            globs = ", ".join(group.params)
            raise UserError(f"optimizer.groups: {globs} matches no parameter that is left; there are {', '.join(rest)}")
        groups.append({"params": [rest.pop(name) for name in chosen], **(group.model_extra or {})})
    return [*groups, {"params": list(rest.values())}] if rest else groups
