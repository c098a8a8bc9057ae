"""Statistics of many series of equal length: each series is measured in itself, then the results are averaged.

A series is compared with its own order statistics or scale. What is averaged is a logarithm or a ratio without units,
so series of very unequal scale can be averaged. Pooling the raw values instead makes Gaussian noise of unequal scales
look like infinite variance. Intervals come from leaving out groups of draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

Array = NDArray[np.floating[Any]]

STABLE_QUANTILE_DISTANCE = 1.654
"""Distance of the 28 % and the 72 % quantile of a symmetric stable law of scale 1, nearly the same for every alpha.

Fama and Roll (1971), "Parameter estimates for symmetric stable distributions", JASA 66.
"""


class Series:
    """Series along the last axis, with their order statistics computed once.

    Args:
        values: ``[..., series, length]``; the leading axes stack samples that are measured independently.
    """

    def __init__(self, values: Array) -> None:
        self.values = values

    @cached_property
    def ordered(self) -> Array:
        """Each series in ascending order, ``[..., series, length]``."""
        return np.sort(self.values, axis=-1)

    def quantile(self, probability: float) -> Array:
        """A quantile of each series, ``[..., series]``; the i-th of n values stands for (i − ½)/n (McCulloch 1986)."""
        length = self.values.shape[-1]
        position = min(max(probability * length - 0.5, 0.0), length - 1.0)
        below = int(position)
        above = min(below + 1, length - 1)
        return self.ordered[..., below] + (position - below) * (self.ordered[..., above] - self.ordered[..., below])

    def largest(self, count: int) -> Array:
        """The ``count`` largest magnitudes of each series in descending order, ``[..., series, count]``."""
        candidates = self.ordered
        if 2 * count < candidates.shape[-1]:
            candidates = np.concatenate([candidates[..., :count], candidates[..., -count:]], axis=-1)
        return np.sort(np.abs(candidates), axis=-1)[..., : -count - 1 : -1]

    @cached_property
    def fama_roll_scale(self) -> Array:
        """The scale of each series from two quantiles, ``[..., series]``."""
        return (self.quantile(0.72) - self.quantile(0.28)) / STABLE_QUANTILE_DISTANCE

    @cached_property
    def standardised(self) -> Array:
        """Each series minus its median, divided by its own Fama-Roll scale, ``[..., series, length]``."""
        return (self.values - self.quantile(0.5)[..., None]) / self.fama_roll_scale[..., None]


@dataclass(frozen=True)
class Statistic:
    """A measure of a tail.

    Attributes:
        name: in rows and messages.
        features: from series to numbers ``[..., series, features]`` whose mean over the series means something.
        heaviness: from mean features ``[..., features]`` to a score ``[...]`` that grows with the weight of the tail.
        value: from the score to the printed tail index or ratio; monotone.
        standard_error: asymptotic standard error of the score, given the score, for one series of independent values;
            None where only resampling gives one.
        describes: whether it only describes the sample and is not judged.
    """

    name: str
    features: Callable[[Series], Array]
    heaviness: Callable[[Array], Array]
    value: Callable[[Array], Array]
    standard_error: Callable[[Array], Array] | None = None
    describes: bool = False

    def __call__(self, series: Series) -> Array:
        """The score ``[...]`` of the series pooled."""
        return self.heaviness(self.features(series).mean(axis=-2))


def reciprocal(score: Array) -> Array:
    """The tail index that belongs to an extreme-value index: 1/score, infinite where the score is not positive."""
    positive = np.where(score > 0, score, np.nan)
    return np.where(score <= 0, np.inf, 1 / positive)


def row_means(values: Array) -> Array:
    """Means over the last axis, ``[...]``; a matrix product is many times faster at it than ``mean`` on short rows."""
    length = values.shape[-1]
    return values @ np.full(length, 1 / length, dtype=values.dtype)


def kurtosis() -> Statistic:
    """Mean over the series of the excess kurtosis n Σ(x − x̄)⁴/(Σ(x − x̄)²)² − 3: about 0 for Gaussian values."""

    def features(series: Series) -> Array:
        means = row_means(series.values)
        squares = series.values - means[..., None]
        squares *= squares
        second = row_means(squares)
        squares *= squares
        # A series without spread, as one whose only event is left out by the jackknife, is no heavier than Gaussian.
        return np.where(second > 1e-6 * means**2, row_means(squares) / second**2, 3)[..., None]

    return Statistic("kurtosis", features, lambda features: np.log(features[..., 0]), lambda score: np.exp(score) - 3)


def max_share() -> Statistic:
    """Max/sum ratio max x²/Σx²: it tends to 0 as a series grows exactly if the law has a finite variance.

    Embrechts, Klüppelberg and Mikosch (1997), "Modelling Extremal Events", section 6.2.6.
    """

    def features(series: Series) -> Array:
        squares = series.values**2
        means = row_means(squares)
        length = squares.shape[-1]
        return np.where(means > 0, squares.max(axis=-1) / (length * means), 1 / length)[..., None]

    return Statistic("max_share", features, lambda features: np.log(features[..., 0]), np.exp)


def dispersion() -> Statistic:
    """Relative variance of the squares, mean x⁴/(mean x²)² − 1, for noise norms: 2 tr Σ²/(tr Σ)² if Gaussian."""

    def features(series: Series) -> Array:
        squares = series.values * series.values
        return (row_means(squares * squares) / row_means(squares) ** 2)[..., None]

    return Statistic("dispersion", features, lambda features: np.log(features[..., 0]), lambda score: np.exp(score) - 1)


def sd_over_mean() -> Statistic:
    """Standard deviation over the mean of noise norms: small if they are concentrated, infinite if the variance is."""

    def features(series: Series) -> Array:
        return np.stack([row_means(series.values), row_means(series.values**2)], axis=-1)

    def heaviness(features: Array) -> Array:
        return 0.5 * np.log(np.maximum(features[..., 1] / features[..., 0] ** 2 - 1, 0))

    return Statistic("sd_over_mean", features, heaviness, np.exp)


def quantile(probability: float, unit: float) -> Statistic:
    """A quantile of positive data that was divided by ``unit``, given back in the data's own units."""
    return Statistic(
        f"quantile_{probability:g}",
        lambda series: np.log(series.quantile(probability))[..., None],
        lambda features: features[..., 0],
        lambda score: np.exp(score) * unit,
        describes=True,
    )


Interval = tuple[float, float]

GROUPS = 16
UPPER_TAIL = 0.975
"""All intervals hold 95 %."""


def jackknife(scores: Callable[[NDArray[np.intp]], Array], draws: int) -> Array:
    """Standard errors of scores, from leaving out one of up to 16 groups of consecutive draws at a time.

    Only the draws need be independent. What is measured within one draw, such as the coordinates of one mini-batch's
    noise, may depend on each other in any way. Leaving out groups instead of single draws keeps it right for
    quantiles (Shao and Wu 1989, "A general theory for jackknife variance estimation", Annals of Statistics 17).

    Args:
        scores: from the indices of the draws that are kept, ``[replicates, kept]``, to ``[replicates, ...]``.
        draws: number of draws, at least 2.
    """
    everything = np.arange(draws)
    groups = np.array_split(everything, min(GROUPS, draws))
    kept = [np.delete(everything, group) for group in groups]
    # Groups differ in size by at most 1, the larger ones come first: all of a size are measured at once.
    larger = draws % len(groups)
    replicates = [scores(np.stack(of_size)) for of_size in (kept[:larger], kept[larger:]) if of_size]
    return np.asarray(np.sqrt((len(groups) - 1) * np.concatenate(replicates).var(axis=0)))


def jackknife_quantile(draws: int) -> float:
    """Half-width of an interval in jackknife standard errors."""
    return float(stdtrit(min(GROUPS, draws) - 1, UPPER_TAIL))


NORMAL_QUANTILE = float(ndtri(UPPER_TAIL))
"""Half-width of an interval in asymptotic standard errors."""


def interval(statistic: Statistic, score: float, half_width: float) -> Interval:
    """The ends of an interval, in the units that are printed and in ascending order."""
    ends = statistic.value(np.array([score - half_width, score + half_width]))
    return float(ends.min()), float(ends.max())
