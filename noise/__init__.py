"""Gradient noise: tail estimators, the Gaussian control, the variance and its references."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .estimators import TailEstimate, tail_index, tail_index_path
    from .references import effective_dimension, gaussian_norms, stable_norms
    from .report import TailRow, tail_report
    from .sampling import gradient_noise
    from .surrogates import gaussian_surrogates
    from .variance import NoiseScale, gradient_noise_scale, running_variance

__all__ = [
    "NoiseScale",
    "TailEstimate",
    "TailRow",
    "effective_dimension",
    "gaussian_norms",
    "gaussian_surrogates",
    "gradient_noise",
    "gradient_noise_scale",
    "running_variance",
    "stable_norms",
    "tail_index",
    "tail_index_path",
    "tail_report",
]

_HOME = {
    "NoiseScale": "variance",
    "TailEstimate": "estimators",
    "TailRow": "report",
    "effective_dimension": "references",
    "gaussian_norms": "references",
    "gaussian_surrogates": "surrogates",
    "gradient_noise": "sampling",
    "gradient_noise_scale": "variance",
    "running_variance": "variance",
    "stable_norms": "references",
    "tail_index": "estimators",
    "tail_index_path": "estimators",
    "tail_report": "report",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: scipy takes its time."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
