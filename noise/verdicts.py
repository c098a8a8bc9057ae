"""Verdicts on the tail of gradient noise: one p-value, one effect and one word per family of statistics.

The families answer different questions and are judged separately: ``norms`` (do noise norms ‖g − ∇f‖ scatter over
the batches?), ``projections`` (random directions over the batches), ``coordinates`` (single coordinates over the
batches) and ``across_coordinates`` (the coordinates of one batch).

1. Within a family, the most extreme of its statistics is compared with that of each Gaussian surrogate. Several layers
   are tested together: the most extreme statistic of a surrogate is then taken over all layers (max-statistic,
   Westfall and Young 1993, "Resampling-Based Multiple Testing").
2. The four p-values are adjusted by Holm (1979), "A simple sequentially rejective multiple test procedure".
3. A family that departs from its control is ``heavy`` if its tail index says so too (``HEAVY_INDEX``), else ``mild``.
4. A heavy family is ``infinite_variance`` if its own extremes are those of a power law with an index below 2, and not
   those of a log-normal law (``judge_variance``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtri

from .statistics import GROUPS, Array, Interval, jackknife_quantile

NORMS, PROJECTIONS, COORDINATES, ACROSS = FAMILIES = ("norms", "projections", "coordinates", "across_coordinates")

Departure = Literal["light", "gaussian", "heavy"]
Verdict = Literal["light", "gaussian", "mild", "heavy", "infinite_variance", "finite_variance", "undecided"]
"""Of a statistic: light to heavy but mild. Of a family: the first five. Of a family's variance: the last three."""

LEVEL = 0.05
"""Probability that any of the four families of Gaussian noise departs from its control."""

HEAVY_INDEX = {NORMS: 8.0, PROJECTIONS: 5.0, COORDINATES: 5.0, ACROSS: 5.0}
"""A tail is heavy if the interval of its index lies below this.

Of 64 norms with index 8 the largest is 1.8 times the median; and where their eighth moment is infinite, the standard
error of the variance V̂ cannot be estimated at the usual rate. At a share of 5 %, single Gaussian values read 5.5 to 6,
t values with 10 degrees of freedom about 4.5, Laplace values 3.8.
"""

HEAVY_KURTOSIS = 3.0
"""Coordinates that are zero in most batches have no index; they are heavy if the interval of the mean excess kurtosis
lies above that of a Laplace law."""


def control_band(controls: Array) -> Interval:
    """The scores between which 95 % of Gaussian samples lie, from the scores of their surrogates ``[surrogates]``."""
    ordered = np.sort(controls)
    beyond = max(1, round(0.025 * (len(controls) + 1)))
    return float(ordered[beyond - 1]), float(ordered[-beyond])


def departure(score: float, band: Interval) -> Departure:
    """On which side of its control's band a score lies."""
    if score > band[1]:
        return "heavy"
    return "light" if score < band[0] else "gaussian"


@dataclass(frozen=True)
class Extremes:
    """The most extreme statistic of a family, of the sample (first) and of each surrogate, ``[1 + surrogates]`` each.

    Attributes:
        heaviest: the largest standardised score.
        lightest: the smallest one, with its sign changed.
    """

    heaviest: Array
    lightest: Array


def extremes(scores: Array, controls: Array) -> Extremes:
    """The most extreme of several statistics.

    Each is put on a common scale: its distance from the median, in units of the distance that 5 % of sample and
    surrogates exceed on the same side. The sample is treated as the surrogates are, so that for Gaussian noise each of
    them is as likely to be the most extreme, however many statistics there are and however they depend on each other.

    Args:
        scores: ``[statistics]`` of the sample.
        controls: ``[surrogates, statistics]``.
    """
    everything = np.vstack([scores, controls])
    low, median, high = np.quantile(everything, [0.05, 0.5, 0.95], axis=0, method="inverted_cdf")
    usable = np.isfinite(low) & np.isfinite(high) & (low < median) & (median < high)
    distances = everything[:, usable] - median[usable]
    return Extremes(
        heaviest=(distances / (high - median)[usable]).max(axis=1, initial=-np.inf),
        lightest=(-distances / (median - low)[usable]).max(axis=1, initial=-np.inf),
    )


def joint_departures(scopes: Sequence[Extremes]) -> list[tuple[Departure, float]]:
    """One two-sided test per scope, corrected for their number by the max-statistic.

    Args:
        scopes: of the same surrogates: the same rotations of the same batches.

    Returns:
        The side and the p-value of each, the probability that Gaussian noise has a scope as extreme on either side.
    """
    heavy = _corrected(np.stack([scope.heaviest for scope in scopes]))
    light = _corrected(np.stack([scope.lightest for scope in scopes]))
    return [
        ("heavy" if one <= other else "light", min(1.0, 2 * float(min(one, other))))
        for one, other in zip(heavy, light, strict=True)
    ]


def _corrected(scores: Array) -> Array:
    """The share of samples with a scope as extreme as each, from ``[scopes, 1 + surrogates]``."""
    most = scores[:, 1:].max(axis=0)
    return (1 + (most >= scores[:, :1]).sum(axis=1)) / (1 + len(most))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values: comparing each with α keeps the probability of any false rejection at α."""
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def family_verdict(
    family: str, side: Departure, p_value: float, *, index_high: float, kurtosis_low: float, variance: Verdict
) -> Verdict:
    """The word for one family.

    Args:
        family: one of ``FAMILIES``.
        side: of the departure.
        p_value: adjusted for the families.
        index_high: upper end of the interval of its tail index; NaN if it has none.
        kurtosis_low: lower end of the interval of its mean excess kurtosis; NaN if that is not to count.
        variance: what ``judge_variance`` says.
    """
    if p_value > LEVEL:
        return "gaussian"
    if side == "light":
        return "light"
    if not (index_high < HEAVY_INDEX[family] or kurtosis_low > HEAVY_KURTOSIS):
        return "mild"
    return "infinite_variance" if variance == "infinite_variance" else "heavy"


def hill_interval(alpha: float, k: int) -> Interval:
    """The exact 95 % interval of Hill's index from k excesses of a power law: 2kα/α̂ is χ² with 2k degrees."""
    return float(alpha * chdtri(2 * k, 0.975) / (2 * k)), float(alpha * chdtri(2 * k, 0.025) / (2 * k))


FURTHEST, FURTHER = 4, 8
"""The index of the extremes is read at so many times as many values as there are batches."""

WIDEST = 0.05
"""Power law and log-normal tail are told apart over this share of the values."""

SHARES = (WIDEST, 0.02, 0.01)
NORM_SHARES = (0.2, 0.1, 0.05)
"""The same of the norms themselves, which are few."""

FEWEST_EXTREMES = 8
POWER_LAW_QUANTILE, LOG_NORMAL_QUANTILE = float(ndtri(0.999)), float(ndtri(0.95))


@dataclass(frozen=True)
class Tail:
    """The largest magnitudes of a sample, and where they come from.

    Attributes:
        logarithms: ``[kept]``, in descending order.
        batches: ``[kept]``: number of the batch of each.
        values: size of the sample.
        count: number of batches.
    """

    logarithms: Array
    batches: NDArray[np.intp]
    values: int
    count: int

    @classmethod
    def of(cls, series: Array, share: float = WIDEST) -> Tail:
        """That of ``[series, batches]``; as much of it as is looked at."""
        count = series.shape[-1]
        magnitudes = np.abs(series).ravel()
        kept = min(magnitudes.size, 1 + max(round(share * magnitudes.size), FURTHER * count))
        places = np.argpartition(magnitudes, magnitudes.size - kept)[-kept:]
        places = places[np.argsort(-magnitudes[places], kind="stable")]
        with np.errstate(divide="ignore"):
            return cls(np.log(magnitudes[places].astype(np.float64)), places % count, magnitudes.size, count)

    @classmethod
    def joined(cls, tails: Sequence[Tail]) -> Tail:
        """That of samples that stand side by side, from those of each."""
        logarithms = np.concatenate([tail.logarithms for tail in tails])
        batches = np.concatenate([tail.batches for tail in tails])
        order = np.argsort(-logarithms, kind="stable")
        return cls(logarithms[order], batches[order], sum(tail.values for tail in tails), tails[0].count)

    def is_spread(self, k: int) -> bool:
        """Whether the k largest values come from half of the batches or more, not from a few that are large as such."""
        return 2 * len(np.unique(self.batches[:k])) >= self.count

    def index(self, k: int) -> tuple[float, float, float]:
        """Hill's index from the k largest values with its 95 % interval, which is as wide as the batches depend."""
        score, error = self._with_error(k, lambda excesses: float(np.log(excesses.mean())))
        half_width = max(jackknife_quantile(self.count) * error, float(ndtri(0.975)) * k**-0.5)
        return float(np.exp(-score)), float(np.exp(-score - half_width)), float(np.exp(-score + half_width))

    def variation(self, k: int) -> tuple[float, float]:
        """Standard deviation over mean of the k largest log-excesses, and its standard error.

        It is 1 for a power law and less for a log-normal tail; the most powerful test of one against the other rests on
        it (del Castillo and Puig 1999, "The best test of exponentiality against singly truncated normal alternatives",
        JASA 94; Malevergne, Pisarenko and Sornette 2011, "Testing the Pareto against the lognormal distributions with
        the uniformly most powerful unbiased test", Physical Review E 83).
        """
        score, error = self._with_error(k, lambda excesses: float(excesses.std() / excesses.mean()))
        return score, max(error, k**-0.5)

    def _with_error(self, k: int, statistic: Callable[[Array], float]) -> tuple[float, float]:
        groups = min(GROUPS, self.count)
        group = self.batches * groups // self.count
        replicates = []
        for left_out in range(groups):
            size = np.count_nonzero(np.arange(self.count) * groups // self.count == left_out)
            kept = self.logarithms[group != left_out]
            few = min(max(2, round(k * (1 - size / self.count))), len(kept) - 1)
            replicates.append(statistic(kept[:few] - kept[few]))
        error = np.sqrt((groups - 1) * np.var(replicates))
        return statistic(self.logarithms[:k] - self.logarithms[k]), float(error)


def log_normal_variation(share: float) -> float:
    """``Tail.variation`` of the largest ``share`` of log-normal values, the same for every σ."""
    threshold = float(ndtri(1 - share))
    hazard = float(np.exp(-(threshold**2) / 2) / np.sqrt(2 * np.pi) / share)
    return float(np.sqrt(1 + threshold * hazard - hazard**2) / (hazard - threshold))


@dataclass(frozen=True)
class Variance:
    """What the extremes of a family say of its variance.

    Attributes:
        index: Hill's index of the extremes.
        low: lower end of its 95 % interval.
        high: upper end of it.
        verdict: ``infinite_variance``, ``finite_variance`` or ``undecided``.
    """

    index: float
    low: float
    high: float
    verdict: Verdict


def judge_variance(
    values: Tail, standardised: Tail | None, own: Sequence[Interval] = (), norms: Tail | None = None
) -> Variance | None:
    """Whether the variance is infinite.

    E‖x‖² = Σ_j E x_j², so the largest coordinates, in the unit of the norm, are the norm's own extremes: their index is
    the norm's, from many times as many values. The variance is infinite if

    - the interval of the index at 4n or at 8n of n batches lies below 2, and not all of ``own`` lie above 2;
    - the standardised values, over a range of k up to 5 % of them, bend no more than a power law does (0.1 % level for
      each k, one side) and less than a log-normal tail does (5 % level, one side).

    It is also infinite if all of ``own`` lie below 2 and the norms themselves pass the second test, which takes
    thousands of batches. It is finite if all of ``own`` or the index at 4n lie above 2, or the tail bends as a
    log-normal one does. What remains is undecided, such as values of which the largest come from a few batches.

    Args:
        values: in the unit in which they add up.
        standardised: the values that carry the noise, each divided by the scale of its coordinate; None if there is no
            such scale.
        own: intervals of the index of the norms themselves, over a range of k.
        norms: the norms themselves.

    Returns:
        None if there are too few values.
    """
    most = max(FEWEST_EXTREMES, round(WIDEST * values.values))
    ks = sorted({min(times * values.count, most) for times in (FURTHEST, FURTHER)})
    if ks[-1] >= len(values.logarithms) or not np.isfinite(values.logarithms[ks[-1]]):
        return None
    indices = [values.index(k) for k in ks]
    index, low, high = min(indices, key=lambda found: found[2])
    spread = values.is_spread(ks[0])
    bent, told_apart = _shape(standardised, SHARES)
    norms_bent, norms_told_apart = _shape(norms, NORM_SHARES)
    verdict: Verdict = "undecided"
    if own and all(ends[0] > 2 for ends in own):
        verdict = "finite_variance"
    elif own and all(ends[1] < 2 for ends in own) and norms_told_apart and not norms_bent:
        verdict = "infinite_variance"
    elif spread and (bent or indices[0][1] > 2):
        verdict = "finite_variance"
    elif spread and high < 2 and told_apart:
        verdict = "infinite_variance"
    return Variance(index, low, high, verdict)


def _shape(tail: Tail | None, shares: Sequence[float]) -> tuple[bool, bool]:
    """Whether a tail bends more than that of a power law, and whether it bends less than that of a log-normal law."""
    if tail is None:
        return False, False
    ks = [round(share * tail.values) for share in shares]
    furthest = FURTHEST * tail.count
    usable = [
        k
        for k in (*ks, *([furthest] if furthest < ks[0] else []))
        if FEWEST_EXTREMES <= k < len(tail.logarithms) and np.isfinite(tail.logarithms[k])
    ]
    if not usable:
        return False, False
    variations = {k: tail.variation(k) for k in usable}
    bent = any(value + POWER_LAW_QUANTILE * error < 1 for value, error in variations.values())
    value, error = variations[max(usable)]
    threshold = log_normal_variation(max(usable) / tail.values)
    return bent, value - LOG_NORMAL_QUANTILE * error > threshold
