"""The report on a sample of gradient noise: every tail statistic beside the same statistic on Gaussian surrogates.

A row is named ``AXIS/OF/STATISTIC`` after what ``sample.py`` measures. The verdicts on the four families of rows stand
in rows of their own: ``norms``, ``projections``, ``coordinates`` and ``across_coordinates``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .sample import COORDINATE, DENSE_ACROSS, DENSE_COORDINATE, NORM, PROJECTION, NoiseSample, prepare
from .statistics import NORMAL_QUANTILE, Array, Interval, Statistic, interval, jackknife, jackknife_quantile
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
