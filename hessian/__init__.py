"""Curvature: Hessian operators, spectra of blocks of parameters, and distances between spectra."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .blocks import Block, Piece
    from .distances import js_distance, js_divergence, scale_free, sym_kl, wasserstein1
    from .exact import dense_matrix, exact_spectrum
    from .measures import (
        BlockMeasures,
        block_measures,
        directional_sharpness,
        gradient_heterogeneity,
        one_one_norm,
        outside_blocks,
    )
    from .operators import HessianOperator, mean_gradient
    from .pairs import DistanceRow, Heterogeneity, distance_matrix, distance_rows, heterogeneity
    from .partitions import partition
    from .preconditioning import AdamStep, Preconditioned, adam_direction, adam_scale, adam_step, first_scale
    from .quadrature import adaptive_slq, slq
    from .selection import matching, select_blocks
    from .smoothing import PUBLISHED, RELATIVE, Smoothing, density, smoothing_grid
    from .spectra import Effort, block_spectra, measure_blocks
    from .spectrum import Spectrum

__all__ = [
    "PUBLISHED",
    "RELATIVE",
    "AdamStep",
    "Block",
    "BlockMeasures",
    "DistanceRow",
    "Effort",
    "HessianOperator",
    "Heterogeneity",
    "Piece",
    "Preconditioned",
    "Smoothing",
    "Spectrum",
    "adam_direction",
    "adam_scale",
    "adam_step",
    "adaptive_slq",
    "block_measures",
    "block_spectra",
    "dense_matrix",
    "density",
    "directional_sharpness",
    "distance_matrix",
    "distance_rows",
    "exact_spectrum",
    "first_scale",
    "gradient_heterogeneity",
    "heterogeneity",
    "js_distance",
    "js_divergence",
    "matching",
    "mean_gradient",
    "measure_blocks",
    "one_one_norm",
    "outside_blocks",
    "partition",
    "scale_free",
    "select_blocks",
    "slq",
    "smoothing_grid",
    "sym_kl",
    "wasserstein1",
]

_HOME = {
    "PUBLISHED": "smoothing",
    "RELATIVE": "smoothing",
    "AdamStep": "preconditioning",
    "Block": "blocks",
    "BlockMeasures": "measures",
    "DistanceRow": "pairs",
    "Effort": "spectra",
    "HessianOperator": "operators",
    "Heterogeneity": "pairs",
    "Piece": "blocks",
    "Preconditioned": "preconditioning",
    "Smoothing": "smoothing",
    "Spectrum": "spectrum",
    "adam_direction": "preconditioning",
    "adam_scale": "preconditioning",
    "adam_step": "preconditioning",
    "adaptive_slq": "quadrature",
    "block_measures": "measures",
    "block_spectra": "spectra",
    "dense_matrix": "exact",
    "density": "smoothing",
    "directional_sharpness": "measures",
    "distance_matrix": "pairs",
    "distance_rows": "pairs",
    "exact_spectrum": "exact",
    "first_scale": "preconditioning",
    "gradient_heterogeneity": "measures",
    "heterogeneity": "pairs",
    "js_distance": "distances",
    "js_divergence": "distances",
    "matching": "selection",
    "mean_gradient": "operators",
    "measure_blocks": "spectra",
    "one_one_norm": "measures",
    "outside_blocks": "measures",
    "partition": "partitions",
    "scale_free": "distances",
    "select_blocks": "selection",
    "slq": "quadrature",
    "smoothing_grid": "smoothing",
    "sym_kl": "distances",
    "wasserstein1": "distances",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: the settings need no torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
