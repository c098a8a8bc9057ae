"""The report on a sample of gradient noise: every tail statistic beside the same statistic on Gaussian surrogates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .battery import COORDINATE, DENSE_ACROSS, DENSE_COORDINATE, NORM, Battery
from .intervals import NORMAL_QUANTILE, Interval, interval, jackknife, jackknife_quantile
from .sample import prepare
from .series import Array, Statistic
from .surrogates import rotations
from .verdicts import SURROGATES, Verdict, control_band, departure, joint_departure, variance_is_infinite


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
        noise: ``[batches, coordinates]``: each row is the gradient of one mini-batch (or one example) less the
            reference gradient, at the same weights. At least 8 batches; 64 give sharp answers.
        sketch: ``[batches, width]``: random signed sums over all coordinates, where ``noise`` holds only some of them.
            Norms and projections are then those of the sketch (see ``Reduction``).
        seed: chooses the measured coordinates, the random projections and the surrogates.

    Returns:
        One row a statistic. The row ``overall`` comes last; its value is the probability that Gaussian noise would
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
