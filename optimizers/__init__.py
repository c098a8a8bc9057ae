"""Update rules: one file a rule, a registry.

Nothing is imported before it is used: the registry needs no torch, so a config is checked without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .acclip import ACClip
    from .build import build_optimizer
    from .cclip import CClip
    from .gclip import GClip
    from .normalized_sgd import NormalizedSGD
    from .registry import OPTIMIZERS
    from .settings import CustomOptimizer, OptimizerSettings
    from .signum import Signum

__all__ = [
    "OPTIMIZERS",
    "ACClip",
    "CClip",
    "CustomOptimizer",
    "GClip",
    "NormalizedSGD",
    "OptimizerSettings",
    "Signum",
    "build_optimizer",
]

_MODULES = {
    "OPTIMIZERS": "registry",
    "ACClip": "acclip",
    "CClip": "cclip",
    "CustomOptimizer": "settings",
    "GClip": "gclip",
    "NormalizedSGD": "normalized_sgd",
    "OptimizerSettings": "settings",
    "Signum": "signum",
    "build_optimizer": "build",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
