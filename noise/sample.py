"""What is measured of a noise matrix: the series, their statistics, and the largest values.

A statistic is named ``AXIS/OF/STATISTIC``. The axis says where the tail is looked for: ``across_iterations`` in the
values that one thing takes over the batches, ``across_coordinates`` in the values of one batch, each divided by the
scale of its coordinate. Of what: ``norm`` of the noise; ``projection``, 32 random ones; ``coordinate``, randomly
chosen; ``dense_coordinate``, those of them that have a scale, since they are not zero in many batches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..seeds import derive_seed
from .estimators import block, ecf, hill, mcculloch, moment, pickands
from .statistics import Array, Series, Statistic, dispersion, kurtosis, max_share, quantile, sd_over_mean
from .verdicts import ACROSS, COORDINATES, NORMS, PROJECTIONS, Tail

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
"""With fewer coordinates nothing is measured across them."""

Battery = list[tuple[str, Statistic]]
"""Statistics, each with the series that it looks at."""


def battery(batches: int, coordinates: int, dense: int, norm_unit: float) -> Battery:
    """All statistics of a report.

    Args:
        batches: number of mini-batches, the length of a series across iterations.
        coordinates: number of coordinates.
        dense: number of coordinates with a scale of their own, the length of a series across coordinates.
        norm_unit: what norms were divided by.
    """
    across_iterations, shape = _of_order(batches, TAIL_FRACTIONS), (kurtosis(), max_share())
    series: dict[str, tuple[Statistic, ...]] = {
        NORM: (*(quantile(probability, norm_unit) for probability in NORM_QUANTILES), *_of_norms(batches)),
        PROJECTION: (*across_iterations, *shape),
    }
    if coordinates:
        series[COORDINATE] = shape
    if dense:
        series[DENSE_COORDINATE] = across_iterations
    if dense >= FEWEST_ACROSS:
        series[DENSE_ACROSS] = (*_of_order(dense, (FAR_TAIL, *TAIL_FRACTIONS)), *shape)
    return [(name, statistic) for name, statistics in series.items() for statistic in statistics]


def _of_norms(batches: int) -> tuple[Statistic, ...]:
    return (
        *(hill(_count(fraction, batches), f"hill_{fraction:g}") for fraction in NORM_FRACTIONS),
        moment(max(2, _count(NORM_FRACTIONS[-1], batches)), f"moment_{NORM_FRACTIONS[-1]:g}"),
        pickands(_count(0.1, batches), "pickands_0.1"),
        max_share(),
        dispersion(),
        sd_over_mean(),
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


FEWEST_BATCHES = 8

SAMPLED_VALUES = 6144
FEWEST_SAMPLED = 64
"""As many coordinates are compared with surrogates as make about 6,144 values, and at least 64 if there are so many."""

PROJECTED = 32
COLUMNS_AT_ONCE = 32_768

CARRIED = 0.99
"""Share of the noise, by robust scale, of the coordinates whose tail is compared with a log-normal one."""


@dataclass(frozen=True)
class NoiseSample:
    """What is measured of a noise matrix: rows that are all linear in the noise of a batch, and the largest values.

    Attributes:
        rows: ``[rows, batches]``: first the ``dense`` coordinates, then the rest of the ``coordinates``, then
            ``PROJECTED`` random projections, then the noise in an orthonormal basis of its span, where a batch has
            the norm that it has in full.
        dense: number of sampled coordinates with a scale of their own.
        coordinates: number of sampled coordinates.
        norm_unit: what projections and norms were divided by.
        sparse_fraction: estimated share of all coordinates that are not dense, the constant ones among them.
        basis: number of rows of the basis.
        tails: by family, its largest values and those that ``judge_variance`` compares with a log-normal tail.
    """

    rows: Array
    dense: int
    coordinates: int
    norm_unit: float
    sparse_fraction: float
    basis: int
    tails: Mapping[str, tuple[Tail, Tail | None]]

    @property
    def batches(self) -> int:
        """Number of mini-batches."""
        return self.rows.shape[-1]

    @cached_property
    def battery(self) -> Battery:
        """The statistics, in the order of their scores."""
        return battery(self.batches, self.coordinates, self.dense, self.norm_unit)

    def scores(self, stack: Array, battery: Battery) -> Array:
        """Statistics of every sample of a stack ``[..., rows, batches]``, as ``[..., statistics]``."""
        series = _Views(self, stack)
        scores = [statistic(series[name]) for name, statistic in battery]
        # A statistic without a value, such as a ratio of equal norms' distances, has seen no tail at all.
        return np.nan_to_num(np.stack(scores, axis=-1), nan=-np.inf, posinf=np.inf, neginf=-np.inf)


class _Views(dict[str, Series]):
    """The series of a stack by name, made when they are asked for."""

    def __init__(self, sample: NoiseSample, stack: Array) -> None:
        super().__init__()
        self._sample, self._stack = sample, stack

    def __missing__(self, name: str) -> Series:
        sample, stack = self._sample, self._stack
        projections = sample.coordinates + PROJECTED
        if name == NORM:
            basis = stack[..., projections:, :]
            series = Series(np.sqrt(np.einsum("...rb,...rb->...b", basis, basis))[..., None, :])
        elif name == PROJECTION:
            series = Series(stack[..., sample.coordinates : projections, :])
        elif name == COORDINATE:
            series = Series(stack[..., : sample.coordinates, :])
        elif name == DENSE_COORDINATE and sample.dense == sample.coordinates:
            series = self[COORDINATE]
        elif name == DENSE_COORDINATE:
            series = Series(stack[..., : sample.dense, :])
        else:
            series = Series(np.ascontiguousarray(self[DENSE_COORDINATE].standardised.swapaxes(-1, -2)))
        self[name] = series
        return series


def prepare(noise: ArrayLike, sketch: ArrayLike | None = None, *, seed: int) -> NoiseSample:
    """Check a noise matrix and choose what is measured of it.

    Args:
        noise: ``[batches, coordinates]``, at least 8 batches.
        sketch: ``[batches, width]``, where norms and projections are taken from; ``noise`` by default.
        seed: chooses the sampled coordinates and the projections.

    Raises:
        ValueError: wrong number of dimensions, too few batches, no coordinates, NaN or infinite values, or noise that
            is the same in all batches.
    """
    matrix = _checked(np.asarray(noise))
    whole = matrix if sketch is None else _checked(np.asarray(sketch))
    if len(whole) != len(matrix):
        raise ValueError(f"sketch has {len(whole)} batches, noise has {len(matrix)}: they must be the same batches")
    if not _varying(whole).size:
        raise ValueError("noise is the same in every batch, there is nothing to measure")
    norm_unit = float(np.abs(whole).max())
    generator = np.random.default_rng(derive_seed(seed, "tail_report"))
    varying = _varying(matrix)
    count = min(len(varying), max(FEWEST_SAMPLED, SAMPLED_VALUES // len(matrix)))
    chosen = matrix[:, generator.choice(varying, count, replace=False)].T.astype(np.float64)
    tied = _tied(chosen)
    coordinates = np.concatenate([chosen[~tied], chosen[tied]])
    coordinates /= np.abs(coordinates).max(axis=1, keepdims=True)
    projections, basis = _projections_and_basis(whole, norm_unit, generator)
    dense = int((~tied).sum())
    return NoiseSample(
        # Single precision halves the time, and every statistic is a ratio or a logarithm of one.
        rows=np.concatenate([coordinates, projections, basis]).astype(np.float32),
        dense=dense,
        coordinates=count,
        norm_unit=norm_unit,
        sparse_fraction=float(_tied(_some_columns(matrix, generator)).mean()),
        basis=len(basis),
        tails=_tails(matrix, whole, projections, norm_unit, generator),
    )


def _checked(matrix: Array) -> Array:
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise ValueError(f"noise must have the shape [batches, coordinates], not {list(matrix.shape)}")
    if len(matrix) < FEWEST_BATCHES:
        raise ValueError(f"noise: {len(matrix)} batches are too few, at least {FEWEST_BATCHES} are needed")
    if not np.isfinite(matrix).all():
        raise ValueError(f"noise must be finite, {np.count_nonzero(~np.isfinite(matrix))} values are not")
    return matrix


def _varying(matrix: Array) -> NDArray[np.intp]:
    """The coordinates that are not the same in all batches."""
    return np.flatnonzero((matrix != matrix[0]).any(axis=0))


def _tied(coordinates: Array) -> NDArray[np.bool_]:
    """Which coordinates have no scale of their own: an exact zero, or one value in a quarter of the batches or more.

    A parameter that a batch does not touch has gradient 0 there, hence noise of exactly minus the reference gradient.
    Gaussian noise has no ties, so leaving tied coordinates out does not touch the control.
    """
    ordered = np.sort(coordinates, axis=1)
    reach = math.ceil(coordinates.shape[1] / 4) - 1
    return (ordered[:, reach:] == ordered[:, : ordered.shape[1] - reach]).any(axis=1) | (ordered == 0).any(axis=1)


def _projections_and_basis(matrix: Array, unit: float, generator: np.random.Generator) -> tuple[Array, Array]:
    """Random projections of the noise, and the noise in a basis of its span: ``[few, batches]`` each.

    Wide matrices are read in parts, so that nothing of their size is copied.
    """
    batches, width = matrix.shape
    projections = np.zeros((PROJECTED, batches))
    gram = np.zeros((batches, batches))
    for start in range(0, width, COLUMNS_AT_ONCE):
        part = matrix[:, start : start + COLUMNS_AT_ONCE].T.astype(np.float64) / unit
        projections += generator.standard_normal((PROJECTED, len(part))) @ part
        gram += part.T @ part
    if width <= batches:
        return projections, part
    energies, directions = np.linalg.eigh(gram)
    return projections, (directions * np.sqrt(np.maximum(energies, 0))).T


def _tails(
    matrix: Array, whole: Array, projections: Array, unit: float, generator: np.random.Generator
) -> dict[str, tuple[Tail, Tail | None]]:
    """The largest values of each family; those of the norms are the largest coordinates, in the norm's unit."""
    parts = range(0, whole.shape[1], COLUMNS_AT_ONCE)
    largest = Tail.joined([Tail.of(whole[:, start : start + COLUMNS_AT_ONCE].T / unit) for start in parts])
    columns = _some_columns(whole, generator)
    carrying = _standardised(columns, CARRIED)
    tails = {NORMS: (largest, None if carrying is None else Tail.of(carrying))}
    # The 32 projections of a batch are large together: they are too few to tell their tail from a log-normal one.
    of_projections = _standardised(projections, 1.0)
    if of_projections is not None:
        tails[PROJECTIONS] = (Tail.of(of_projections), None)
    of_coordinates = _standardised(columns if matrix is whole else _some_columns(matrix, generator), 1.0)
    if of_coordinates is not None:
        tails[COORDINATES] = tails[ACROSS] = (Tail.of(of_coordinates), Tail.of(of_coordinates))
    return tails


def _some_columns(matrix: Array, generator: np.random.Generator) -> Array:
    """At most ``COLUMNS_AT_ONCE`` random columns as rows."""
    width = matrix.shape[1]
    if width <= COLUMNS_AT_ONCE:
        return matrix.T
    return matrix[:, np.sort(generator.choice(width, COLUMNS_AT_ONCE, replace=False))].T


def _standardised(rows: Array, share: float) -> Array | None:
    """The rows that have most of the robust variance, each minus its median and over its scale, ``[some, batches]``.

    None if rows without a scale hold more than half of the energy: then these would say nothing of the noise.
    """
    largest = float(np.abs(rows).max())
    rows = rows.astype(np.float64) / (largest or 1.0)
    tied = _tied(rows)
    energy = np.einsum("rb,rb->r", rows, rows)
    if energy[tied].sum() >= energy[~tied].sum():
        return None
    series = Series(rows[~tied])
    scales = series.fama_roll_scale
    order = np.argsort(-scales)
    carried = np.cumsum(scales[order] ** 2)
    kept = order[: np.searchsorted(carried, share * carried[-1]) + 1]
    return np.asarray(series.standardised[kept])
