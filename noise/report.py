"""The report on a sample of gradient noise: every tail statistic beside the same statistic on Gaussian surrogates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..seeds import derive_seed
from .estimators import block, ecf, hill, mcculloch, moment, pickands
from .statistics import (
    NORMAL_QUANTILE,
    Array,
    Interval,
    Series,
    Statistic,
    dispersion,
    interval,
    jackknife,
    jackknife_quantile,
    kurtosis,
    max_share,
    quantile,
)
from .surrogates import rotations

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


FEWEST_BATCHES = 8

SAMPLED_VALUES = 32_768
FEWEST_SAMPLED = 64
"""As many coordinates are measured as make about 32,768 values, and at least 64 if there are so many."""

PROJECTIONS = 32
COLUMNS_AT_ONCE = 65_536


@dataclass(frozen=True)
class NoiseSample:
    """What is measured of a noise matrix: rows that are all linear in the noise of a batch.

    Attributes:
        rows: ``[rows, batches]``: first the ``dense`` coordinates, then the rest of the ``coordinates``, then
            ``PROJECTIONS`` random projections, then the noise in an orthonormal basis of its span, where a batch has
            the norm that it has in full.
        dense: number of sampled coordinates with a scale of their own.
        coordinates: number of sampled coordinates.
        norm_unit: what projections and norms were divided by.
        sparse_fraction: estimated share of all coordinates that are not dense, the constant ones among them.
    """

    rows: Array
    dense: int
    coordinates: int
    norm_unit: float
    sparse_fraction: float

    @property
    def batches(self) -> int:
        """Number of mini-batches."""
        return self.rows.shape[-1]

    @cached_property
    def battery(self) -> Battery:
        """The statistics, in the order of their scores."""
        return battery(self.batches, self.coordinates, self.dense, self.norm_unit)

    def scores(self, stack: Array) -> Array:
        """Every statistic of every sample of a stack ``[..., rows, batches]``, as ``[..., statistics]``."""
        families = self._families(stack)
        scores = [statistic(families[family]) for family, statistic in self.battery]
        # A statistic without a value, such as a ratio of equal norms' distances, has seen no tail at all.
        return np.nan_to_num(np.stack(scores, axis=-1), nan=-np.inf, posinf=np.inf, neginf=-np.inf)

    def _families(self, stack: Array) -> dict[str, Series]:
        projections = self.coordinates + PROJECTIONS
        families = {
            NORM: Series(np.linalg.norm(stack[..., projections:, :], axis=-2, keepdims=True)),
            PROJECTION: Series(stack[..., self.coordinates : projections, :]),
        }
        if self.coordinates:
            families[COORDINATE] = Series(stack[..., : self.coordinates, :])
        if 0 < self.dense == self.coordinates:
            families[DENSE_COORDINATE] = families[COORDINATE]
        elif self.dense:
            families[DENSE_COORDINATE] = Series(stack[..., : self.dense, :])
        if self.dense >= FEWEST_ACROSS:
            standardised = families[DENSE_COORDINATE].standardised
            families[DENSE_ACROSS] = Series(np.ascontiguousarray(standardised.swapaxes(-1, -2)))
        return families


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
        sparse_fraction=1 - dense / max(1, count) * len(varying) / matrix.shape[1],
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

    Wide matrices are read in pieces, so that nothing of their size is copied.
    """
    batches, width = matrix.shape
    projections = np.zeros((PROJECTIONS, batches))
    gram = np.zeros((batches, batches))
    for start in range(0, width, COLUMNS_AT_ONCE):
        piece = matrix[:, start : start + COLUMNS_AT_ONCE].T.astype(np.float64) / unit
        projections += generator.standard_normal((PROJECTIONS, len(piece))) @ piece
        gram += piece.T @ piece
    if width <= batches:
        return projections, piece
    energies, directions = np.linalg.eigh(gram)
    return projections, (directions * np.sqrt(np.maximum(energies, 0))).T


Verdict = Literal["light", "gaussian", "heavy", "infinite_variance"]
Departure = Literal["light", "gaussian", "heavy"]

SURROGATES = 119
"""Gaussian noise lies beyond all of its surrogates with probability 1/120 on either side: the joint verdict's level."""

BEYOND = 3
"""The third smallest and the third largest of 119 surrogates enclose 95 % of Gaussian samples."""

NORM_SLACK = 1.25
"""By what factor a norm's tail index may be read larger than its coordinates': Hill errs so far on stable vectors."""


def control_band(controls: Array) -> Interval:
    """The scores between which 95 % of Gaussian samples lie, from the scores of their surrogates ``[surrogates]``."""
    ordered = np.sort(controls)
    return float(ordered[BEYOND - 1]), float(ordered[-BEYOND])


def departure(score: float, band: Interval) -> Departure:
    """On which side of its control's band a score lies."""
    if score > band[1]:
        return "heavy"
    return "light" if score < band[0] else "gaussian"


def joint_departure(scores: Array, controls: Array) -> tuple[Departure, float]:
    """One test out of many statistics.

    Each statistic is put on a common scale: its distance from the median, in units of the distance that 5 % of sample
    and surrogates exceed on the same side. Then the most extreme statistic of the sample is compared with that of each
    surrogate. Gaussian noise is as likely to have the largest as any of its surrogates, however many statistics there
    are and however they depend on each other (Westfall and Young 1993, "Resampling-Based Multiple Testing"). A sample
    that is both heavy and light is called heavy.

    Args:
        scores: ``[statistics]`` of the sample.
        controls: ``[surrogates, statistics]``.

    Returns:
        The departure, and the probability that Gaussian noise looks as heavy as the sample.
    """
    everything = np.vstack([scores, controls])
    low, median, high = np.quantile(everything, [0.05, 0.5, 0.95], axis=0, method="inverted_cdf")
    usable = np.isfinite(low) & np.isfinite(high) & (low < median) & (median < high)
    distances = everything[:, usable] - median[usable]
    heaviest = (distances / (high - median)[usable]).max(axis=1, initial=-np.inf)
    lightest = (distances / (median - low)[usable]).min(axis=1, initial=np.inf)
    p_value = float(np.mean(heaviest >= heaviest[0]))
    if heaviest[0] > heaviest[1:].max():
        return "heavy", p_value
    return ("light" if lightest[0] < lightest[1:].min() else "gaussian"), p_value


def variance_is_infinite(
    norms: Mapping[str, Interval], coordinates: Mapping[str, Interval], across: Mapping[str, Interval]
) -> bool:
    """Whether the extreme-value estimators agree that the tail index is below 2.

    They do if all intervals of the noise norms lie below 2: over a range of k, which tells a power law from a few
    batches that are all larger than the rest.

    They also do if the intervals of single coordinates lie below 2 and nothing contradicts them. What can look like a
    power law in single coordinates is rare and bounded, as the gradient of a rare token's embedding. Then the largest
    coordinates of each batch are near their bound, or the norms have a lighter tail than the coordinates, which no
    true tail allows: the tail index of a norm is the smallest of its coordinates'.

    Args:
        norms: intervals of α by name of the statistic, of noise norms across iterations.
        coordinates: those of single coordinates across iterations; empty if none could be measured.
        across: those across the coordinates of single batches; empty if there are too few coordinates.
    """
    if all(high < 2 for _, high in norms.values()):
        return True
    if not coordinates or any(low > 2 for low, _ in [*coordinates.values(), *across.values()]):
        return False
    ends = [coordinates[name][1] for name in ("hill_0.05", "moment_0.05")]
    return all(end < 2 for end in ends) and norms["hill_0.2"][0] <= NORM_SLACK * max(ends)


@dataclass(frozen=True)
class TailRow:
    """One measured statistic of gradient noise: the fields of a row of ``noise.csv``.

    Attributes:
        statistic: where the tail is looked for, of what, and how, as in ``across_iterations/norm/hill_0.1``.
        value: the measured value: a tail index α for the estimators, else what the statistic's name says.
        ci_low: lower end of the 95 % interval; None if there is none.
        ci_high: upper end of it.
        control_low: lower end of the range that holds 95 % of the Gaussian surrogates; None if there is none.
        control_high: upper end of it.
        verdict: this statistic against its own control; None for a row that only describes.
    """

    statistic: str
    value: float
    ci_low: float | None
    ci_high: float | None
    control_low: float | None
    control_high: float | None
    verdict: Verdict | None


@np.errstate(divide="ignore", invalid="ignore")
def tail_report(noise: ArrayLike, *, sketch: ArrayLike | None = None, seed: int = 0) -> list[TailRow]:
    """Measure the tail of gradient noise in every way that is known to mean something, and judge it.

    A row is named ``AXIS/OF/STATISTIC``. The axis says where the tail is looked for: ``across_iterations`` in the
    values that one thing takes over the batches, ``across_coordinates`` in the values of one batch, each divided by
    the coordinate's own scale. Of what: ``norm`` of the noise; ``projection``, 32 random ones; ``coordinate``, randomly
    chosen; ``dense_coordinate``, those of them that have a scale, since they are not zero in many batches. Statistics:
    ``hill``, ``moment`` and ``pickands`` with the share of the series that they take for its tail; ``mcculloch``,
    ``ecf`` and ``block``, which assume an α-stable law; ``kurtosis`` (excess), ``max_share`` (largest square over the
    sum of squares), ``dispersion`` (relative variance of the squared norm), ``quantile_P`` of the norm.

    The verdict ``overall`` is ``heavy`` or ``light`` if in some statistic the noise is more extreme than all of 119
    Gaussian surrogates are in any; Gaussian noise, whatever the scales of its coordinates and the correlations between
    them, comes out ``heavy`` in 1 of 120 samples and ``light`` in 1 of 120. The verdicts of the other rows have no such
    protection: by chance each is wrong for 5 % of Gaussian samples. With many batches a departure can be found that is
    too small to matter, so look at the values too. ``infinite_variance`` means that the tail falls like one without
    variance as far as it was seen: a stable law near α = 2 is only called ``heavy``, and rare events of very unequal
    sizes can be taken for it.

    Args:
        noise: ``[batches, coordinates]``: each row is the gradient of one mini-batch (or one example) minus the
            reference gradient, at the same weights. At least 8 batches; 64 give sharp answers.
        sketch: ``[batches, width]``: random signed sums over all coordinates, where ``noise`` holds only some of them.
            Norms and projections are then those of the sketch (see ``Reduction``).
        seed: chooses the measured coordinates, the random projections and the surrogates.

    Returns:
        One row per statistic. The row ``overall`` comes last; its value is the probability that Gaussian noise would
        look as heavy.

    Raises:
        ValueError: ``noise`` or ``sketch`` has the wrong shape, fewer than 8 batches, values that are not finite, or
            rows that are all the same.
    """
    sample = prepare(noise, sketch, seed=seed)
    scores = sample.scores(sample.rows)
    controls = np.concatenate([sample.scores(stack) for stack in rotations(sample.rows, SURROGATES, seed=seed)])
    errors = jackknife(lambda kept: sample.scores(sample.rows[:, kept]), sample.batches)
    intervals = [
        interval(statistic, score, _half_width(family, statistic, score, error, sample.batches))
        for (family, statistic), score, error in zip(sample.battery, scores, errors, strict=True)
    ]
    rows = [
        _row(f"{family}/{statistic.name}", statistic, score, ends, control)
        for (family, statistic), score, ends, control in zip(sample.battery, scores, intervals, controls.T, strict=True)
    ]
    sparse = TailRow(f"{COORDINATE}/sparse_fraction", sample.sparse_fraction, None, None, None, None, None)
    return [*rows, sparse, _overall(sample.battery, scores, intervals, controls)]


def _half_width(family: str, statistic: Statistic, score: float, error: float, batches: int) -> float:
    half_width = jackknife_quantile(batches) * float(error)
    if family == NORM and statistic.standard_error is not None:
        # Norms are one series of independent values, so asymptotic errors hold too. Of the two the wider counts: few
        # values are used, and one outlier among them is seen by the jackknife alone.
        half_width = float(np.fmax(half_width, NORMAL_QUANTILE * statistic.standard_error(np.asarray(score))))
    return half_width


def _row(name: str, statistic: Statistic, score: float, ends: Interval, controls: Array) -> TailRow:
    band = control_band(controls)
    low, high = np.sort(statistic.value(np.array(band)))
    verdict: Verdict | None = None if statistic.describes else departure(score, band)
    if verdict == "heavy" and statistic.tells_variance and ends[1] < 2:
        verdict = "infinite_variance"
    value = float(statistic.value(np.asarray(score)))
    return TailRow(name, value, _or_none(ends[0]), _or_none(ends[1]), float(low), float(high), verdict)


def _or_none(end: float) -> float | None:
    return None if np.isnan(end) else end


def _overall(statistics: Battery, scores: Array, intervals: list[Interval], controls: Array) -> TailRow:
    judged = np.array([not statistic.describes for _, statistic in statistics])
    verdict: Verdict
    verdict, p_value = joint_departure(scores[judged], controls[:, judged])
    tails: dict[str, dict[str, Interval]] = {NORM: {}, DENSE_COORDINATE: {}, DENSE_ACROSS: {}}
    for (family, statistic), ends in zip(statistics, intervals, strict=True):
        if statistic.tells_variance and family in tails:
            tails[family][statistic.name] = ends
    if verdict == "heavy" and variance_is_infinite(*tails.values()):
        verdict = "infinite_variance"
    return TailRow("overall", p_value, None, None, None, None, verdict)
