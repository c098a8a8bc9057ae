"""Curvature: Hessian operators, spectra of blocks of parameters, and distances between spectra."""

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
from .preconditioning import Preconditioned, adam_direction, adam_scale, first_scale
from .quadrature import adaptive_slq, slq
from .selection import matching, select_blocks
from .smoothing import PUBLISHED, RELATIVE, Smoothing, density, smoothing_grid
from .spectra import Effort, block_spectra, measure_blocks
from .spectrum import Spectrum

__all__ = [
    "PUBLISHED",
    "RELATIVE",
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
