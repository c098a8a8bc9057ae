"""The report on a sample of gradient noise: every tail statistic beside the same statistic on Gaussian surrogates.

A row is named ``AXIS/OF/STATISTIC``. The axis says where the tail is looked for: ``across_iterations`` in the values
that one thing takes over the batches, ``across_coordinates`` in the values of one batch, each divided by the scale of
its coordinate. Of what: ``norm`` of the noise; ``projection``, 32 random ones; ``coordinate``, randomly chosen;
``dense_coordinate``, those of them that have a scale, since they are not zero in many batches. The verdicts on the four
families of rows stand in rows of their own: ``norms``, ``projections``, ``coordinates`` and ``across_coordinates``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

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
    sd_over_mean,
)
from .surrogates import rotations
from .verdicts import (
    ACROSS,
    COORDINATES,
    FAMILIES,
    NORM_SHARES,
    NORMS,
    PROJECTIONS,
    Departure,
    Extremes,
    Tail,
    Variance,
    Verdict,
    control_band,
    departure,
    extremes,
    family_verdict,
    hill_interval,
    holm,
    joint_departures,
    judge_variance,
)

NORM = "across_iterations/norm"
PROJECTION = "across_iterations/projection"
COORDINATE = "across_iterations/coordinate"
DENSE_COORDINATE = "across_iterations/dense_coordinate"
DENSE_ACROSS = "across_coordinates/dense_coordinate"

TESTED: dict[str, dict[str, tuple[str, ...]]] = {
    NORMS: {NORM: ("hill_0.1", "hill_0.2", "max_share", "dispersion")},
    PROJECTIONS: {PROJECTION: ("kurtosis", "max_share")},
    COORDINATES: {COORDINATE: ("kurtosis",), DENSE_COORDINATE: ("hill_0.05",)},
    ACROSS: {DENSE_ACROSS: ("hill_0.05", "kurtosis")},
}
"""The statistics that a family's p-value rests on, by the series that they look at."""

INDICES = {
    NORMS: tuple(f"{NORM}/hill_{fraction:g}" for fraction in (0.05, 0.1, 0.2)),
    PROJECTIONS: (f"{PROJECTION}/hill_0.05",),
    COORDINATES: (f"{DENSE_COORDINATE}/hill_0.05",),
    ACROSS: (f"{DENSE_ACROSS}/hill_0.05",),
}
"""The tail index of a family; of several that whose interval reaches least high."""

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


@dataclass(frozen=True)
class TailRow:
    """One measured statistic of gradient noise: the fields of a row of ``noise.csv``.

    Attributes:
        statistic: where the tail is looked for, of what, and how, as in ``across_iterations/norm/hill_0.1``.
        value: the measured value: a tail index α for the estimators, a p-value for a family, else what the statistic's
            name says.
        ci_low: lower end of the 95 % interval; None if there is none.
        ci_high: upper end of it.
        control_low: lower end of the range that holds 95 % of the Gaussian surrogates; None if there is none.
        control_high: upper end of it.
        verdict: of a statistic against its own control, of a family, or of a family's variance; None for a row that
            only describes.
    """

    statistic: str
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    control_low: float | None = None
    control_high: float | None = None
    verdict: Verdict | None = None


def tail_report(noise: ArrayLike, *, sketch: ArrayLike | None = None, seed: int = 0) -> list[TailRow]:
    """Measure the tail of gradient noise beside that of Gaussian surrogates, and judge it.

    First come the four families, ``norms``, ``projections``, ``coordinates`` and ``across_coordinates``, each with up
    to three rows:

    - ``FAMILY``: the p-value of a two-sided rank test of its most extreme statistic among 999 Gaussian surrogates, with
      Holm's adjustment for the four families, and the verdict. ``gaussian``: not told apart from Gaussian noise;
      ``light``: lighter tails; ``mild``: heavier than the control, but not by an amount that counts; ``heavy``: the
      interval of the tail index lies below the limit (``verdicts.HEAVY_INDEX``); ``infinite_variance``: heavy, and the
      extremes are those of a power law with an index below 2. Gaussian noise, whatever the scales and correlations of
      its coordinates, has a family that is not ``gaussian`` in at most 5 % of samples.
    - ``FAMILY/tail_index``: Hill's index with its interval, beside that of the surrogates.
    - ``FAMILY/variance``: the index of the furthest values, and whether the variance is ``infinite_variance``,
      ``finite_variance`` or ``undecided``.

    Then come the single statistics (see the module): ``hill``, ``moment`` and ``pickands`` with the share of the series
    that they take for its tail; ``mcculloch``, ``ecf`` and ``block``, which assume an α-stable law; ``kurtosis``
    (excess); ``max_share`` (largest square over the sum of squares); ``dispersion`` (relative variance of the squared
    norm); ``sd_over_mean`` and ``quantile_P`` of the norm. Each of their verdicts is wrong for 5 % of Gaussian samples.

    Args:
        noise: ``[batches, coordinates]``: each row is the gradient of one mini-batch (or one example) minus the
            reference gradient, at the same weights. The rows must be independent draws: Gaussian rows of an
            autoregression may be called light or heavy. At least 8 batches; 64 give sharp answers.
        sketch: ``[batches, width]``: random signed sums over all coordinates, where ``noise`` holds only some of them.
            Norms and projections are then those of the sketch (see ``Reduction``).
        seed: chooses the measured coordinates, the random projections and the surrogates.

    Raises:
        ValueError: ``noise`` or ``sketch`` has the wrong shape, fewer than 8 batches, values that are not finite, or
            rows that are all the same.
    """
    measured = measure_tail(noise, sketch=sketch, seed=seed)
    return [*judge([measured])[0], *measured.rows]


SURROGATES = 999
"""Of a single sample; so that Holm's smallest p-value is 0.008."""

LAYER_SURROGATES = 199
"""Of each of many layers."""

BAND_SURROGATES = 119
"""For statistics that no p-value rests on; the third smallest and third largest enclose 95 % of Gaussian samples."""


@dataclass(frozen=True)
class TailMeasurement:
    """The statistics of one sample, and what the verdicts on its families need.

    Attributes:
        rows: of the single statistics.
        extremes: by family.
        indices: by family, the row ``FAMILY/tail_index``.
        variances: by family.
    """

    rows: list[TailRow]
    extremes: Mapping[str, Extremes]
    indices: Mapping[str, TailRow]
    variances: Mapping[str, Variance]

    def kurtosis_low(self, family: str) -> float:
        """Lower end of the interval of the coordinates' mean excess kurtosis; NaN for the other families."""
        ends = [row.ci_low for row in self.rows if row.statistic == f"{COORDINATE}/kurtosis"]
        return math.nan if family != COORDINATES or not ends or ends[0] is None else ends[0]


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def measure_tail(
    noise: ArrayLike, *, sketch: ArrayLike | None = None, seed: int = 0, surrogates: int = SURROGATES
) -> TailMeasurement:
    """The statistics of a sample and of its surrogates; arguments and errors as of ``tail_report``."""
    sample = prepare(noise, sketch, seed=seed)
    families = [_family(name, statistic) for name, statistic in sample.battery]
    scores = sample.scores(sample.rows, sample.battery)
    controls = _controls(sample, families, surrogates, seed)
    errors = jackknife(lambda kept: sample.scores(_replicates(sample.rows, kept), sample.battery), sample.batches)
    rows = [
        _row(
            f"{name}/{statistic.name}", statistic, score, _ends(name, statistic, score, error, sample.batches), control
        )
        for (name, statistic), score, error, control in zip(sample.battery, scores, errors, controls, strict=True)
    ]
    rows.append(TailRow(f"{COORDINATE}/sparse_fraction", sample.sparse_fraction))
    by_name = {row.statistic: row for row in rows}
    found, indices, variances = {}, {}, {}
    for family in FAMILIES:
        places = [place for place, of in enumerate(families) if of == family]
        if not places:
            continue
        found[family] = extremes(scores[places], np.stack([controls[place] for place in places], axis=1))
        candidates = [by_name[name] for name in INDICES[family] if name in by_name]
        if candidates:
            least = min(candidates, key=lambda row: math.inf if row.ci_high is None else row.ci_high)
            indices[family] = replace(least, statistic=f"{family}/tail_index", verdict=None)
        own = [_interval(row) for row in candidates] if family == NORMS else []
        lengths = np.linalg.norm(sample.rows[-sample.basis :], axis=0, keepdims=True)
        norms = Tail.of(lengths, NORM_SHARES[0]) if own else None
        if family in sample.tails and (variance := judge_variance(*sample.tails[family], own, norms)) is not None:
            variances[family] = variance
    return TailMeasurement(rows, found, indices, variances)


def judge(scopes: Sequence[TailMeasurement]) -> list[list[TailRow]]:
    """The rows of the families of each scope; several scopes are tested together (Westfall and Young).

    Args:
        scopes: measured on the same batches with the same seed and number of surrogates.
    """
    raw: list[dict[str, float]] = [{} for _ in scopes]
    sides: list[dict[str, Departure]] = [{} for _ in scopes]
    for family in FAMILIES:
        places = [place for place, scope in enumerate(scopes) if family in scope.extremes]
        departures = joint_departures([scopes[place].extremes[family] for place in places]) if places else []
        for place, (side, p_value) in zip(places, departures, strict=True):
            raw[place][family], sides[place][family] = p_value, side
    return [
        [
            row
            for family, p_value in holm(p_values).items()
            for row in _family_rows(scope, family, side[family], p_value)
        ]
        for scope, p_values, side in zip(scopes, raw, sides, strict=True)
    ]


def _family_rows(scope: TailMeasurement, family: str, side: Departure, p_value: float) -> Iterator[TailRow]:
    index, variance = scope.indices.get(family), scope.variances.get(family)
    verdict = family_verdict(
        family,
        side,
        p_value,
        index_high=_interval(index)[1] if index else math.nan,
        kurtosis_low=scope.kurtosis_low(family),
        variance=variance.verdict if variance else "undecided",
    )
    yield TailRow(family, p_value, verdict=verdict)
    if index:
        yield index
    if variance:
        # Noise that is not heavy has no tail that a power law could be read from.
        of_variance = variance.verdict if verdict in ("heavy", "infinite_variance") else "finite_variance"
        yield TailRow(f"{family}/variance", variance.index, variance.low, variance.high, verdict=of_variance)


def _replicates(rows: Array, kept: NDArray[np.intp]) -> Array:
    """The rows without some batches, ``[replicates, rows, kept]``."""
    return np.ascontiguousarray(np.moveaxis(rows[:, kept], 1, 0))


def _family(series: str, statistic: Statistic) -> str | None:
    """The family whose p-value rests on a statistic; None if there is none."""
    return next((family for family, tested in TESTED.items() if statistic.name in tested.get(series, ())), None)


def _controls(sample: NoiseSample, families: Sequence[str | None], surrogates: int, seed: int) -> list[Array]:
    """The scores of each statistic's surrogates: of all of them, or of the first ``BAND_SURROGATES``."""
    tested = [entry for entry, family in zip(sample.battery, families, strict=True) if family]
    places = [place for place, family in enumerate(families) if family]
    first, everything, done = [], [], 0
    for stack in rotations(sample.rows, surrogates, seed=seed):
        if done < BAND_SURROGATES:
            first.append(sample.scores(stack, sample.battery))
            everything.append(first[-1][:, places])
        else:
            everything.append(sample.scores(stack, tested))
        done += len(stack)
    bands, tests = np.concatenate(first)[:BAND_SURROGATES].T, np.concatenate(everything).T
    remaining = iter(tests)
    return [next(remaining) if family else band for family, band in zip(families, bands, strict=True)]


def _ends(name: str, statistic: Statistic, score: float, error: float, batches: int) -> Interval:
    """The 95 % interval of a statistic."""
    if name == NORM and statistic.name.startswith("hill"):
        # Norms are one series of independent values: the exact interval holds, and one outlier does not widen it.
        return hill_interval(float(statistic.value(np.asarray(score))), round(float(_k(statistic))))
    half_width = jackknife_quantile(batches) * float(error)
    if name == NORM and statistic.standard_error is not None:
        half_width = float(np.fmax(half_width, NORMAL_QUANTILE * statistic.standard_error(np.asarray(score))))
    return interval(statistic, score, half_width)


def _k(statistic: Statistic) -> Array:
    """The number of values that Hill's estimate rests on, from its standard error k^-½."""
    if statistic.standard_error is None:
        raise TypeError(f"{statistic.name} has no asymptotic standard error")
    return statistic.standard_error(np.asarray(0.0)) ** -2


def _row(name: str, statistic: Statistic, score: float, ends: Interval, controls: Array) -> TailRow:
    band = control_band(controls)
    low, high = np.sort(statistic.value(np.array(band)))
    verdict = None if statistic.describes else departure(score, band)
    value = float(statistic.value(np.asarray(score)))
    return TailRow(name, value, _or_none(ends[0]), _or_none(ends[1]), float(low), float(high), verdict)


def _or_none(end: float) -> float | None:
    return None if np.isnan(end) else end


def _interval(row: TailRow) -> Interval:
    return (
        math.nan if row.ci_low is None else row.ci_low,
        math.nan if row.ci_high is None else row.ci_high,
    )
