"""Which statistics look at which part of a noise sample, and what rows of a report call them."""

from __future__ import annotations

import math

from .extremes import hill, moment, pickands
from .series import Statistic
from .shape import dispersion, kurtosis, max_share, quantile
from .stable import block, ecf, mcculloch

NORM = "across_iterations/norm"
PROJECTION = "across_iterations/projection"
COORDINATE = "across_iterations/coordinate"
DENSE_COORDINATE = "across_iterations/dense_coordinate"
DENSE_ACROSS = "across_coordinates/dense_coordinate"

NORM_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NORM_FRACTIONS = (0.05, 0.1, 0.2)
TAIL_FRACTIONS = (0.02, 0.05)
FAR_TAIL = 0.004
"""Fractions are shares of a series that count as its tail, k over its length. Norms are few, so theirs are larger."""

FEWEST_ACROSS = 20
"""Fewer coordinates than this have no tail to speak of: nothing is then measured across them."""

Battery = list[tuple[str, Statistic]]
"""Statistics, each with the family of series that it looks at."""


def battery(batches: int, coordinates: int, dense: int, norm_unit: float) -> Battery:
    """All statistics of a report.

    Args:
        batches: number of mini-batches, the length of a series across iterations.
        coordinates: number of coordinates.
        dense: number of coordinates with a scale of their own, the length of a series across coordinates.
        norm_unit: what norms were divided by.
    """
    across_iterations, shape = _of_order(batches, TAIL_FRACTIONS), (kurtosis(), max_share())
    families: dict[str, tuple[Statistic, ...]] = {
        NORM: (*(quantile(probability, norm_unit) for probability in NORM_QUANTILES), *_of_norms(batches)),
        PROJECTION: (*across_iterations, *shape),
    }
    if coordinates:
        families[COORDINATE] = shape
    if dense:
        families[DENSE_COORDINATE] = across_iterations
    if dense >= FEWEST_ACROSS:
        families[DENSE_ACROSS] = (*_of_order(dense, (FAR_TAIL, *TAIL_FRACTIONS)), *shape)
    return [(family, statistic) for family, statistics in families.items() for statistic in statistics]


def _of_norms(batches: int) -> tuple[Statistic, ...]:
    return (
        *(hill(_count(fraction, batches), f"hill_{fraction:g}") for fraction in NORM_FRACTIONS),
        moment(max(2, _count(NORM_FRACTIONS[-1], batches)), f"moment_{NORM_FRACTIONS[-1]:g}"),
        pickands(_count(0.1, batches), "pickands_0.1"),
        max_share(),
        dispersion(),
    )


def _of_order(length: int, fractions: tuple[float, ...]) -> tuple[Statistic, ...]:
    """Statistics of signed series of a length; each series must have a scale of its own."""
    return (
        *(hill(_count(fraction, length), f"hill_{fraction:g}") for fraction in fractions),
        moment(_count(fractions[-1], length), f"moment_{fractions[-1]:g}"),
        mcculloch(),
        ecf(),
        block(math.isqrt(length)),
    )


def _count(fraction: float, length: int) -> int:
    return max(1, round(fraction * length))
