"""Effects with their 95 % intervals: over seeds, between two estimates, and as a rank correlation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
"""Bootstrap samples of a correlation."""


@dataclass(frozen=True)
class Effect:
    """An estimate and its 95 % interval, whose ends may be infinite."""

    value: float
    low: float
    high: float

    def map(self, increasing: Callable[[float], float]) -> Effect:
        """The same on another scale."""
        return Effect(increasing(self.value), increasing(self.low), increasing(self.high))

    def minus(self, number: float) -> Effect:
        """The same minus a number that is known exactly."""
        return self.map(lambda end: end - number)


def mean_over_seeds(values: Sequence[float]) -> Effect:
    """The mean of one number per seed with Student's interval.

    That is mean ± t·√(n/(n − 1))·SE, with t the 97.5 % quantile of Student's law with n − 1 degrees of freedom and SE
    the standard error of the ideal bootstrap, √(Σ(x − mean)²)/n: its closed form makes resampling needless. Without the
    two factors, that is with mean ± 1.96·SE, the interval of three seeds would be 0.37 times as wide. With one seed it
    is infinite.
    """
    from scipy.special import stdtrit

    numbers = np.asarray(values, dtype=np.float64)
    mean, count = float(numbers.mean()), len(numbers)
    if count < 2:
        return Effect(mean, -math.inf, math.inf)
    half_width = float(stdtrit(count - 1, 0.975) * numbers.std(ddof=1) / math.sqrt(count))
    return Effect(mean, mean - half_width, mean + half_width)


def widened(effect: Effect, samples: int) -> Effect:
    """A percentile interval of few samples, its two sides made longer by what Student's law adds to it.

    Args:
        effect: with the percentile interval of a bootstrap over the samples.
        samples: how many, at least 2.

    Returns:
        The interval with both sides times t·√(n/(n − 1))/1.96, with t as in ``mean_over_seeds``: 1.44 for 6 samples,
        1.29 for 8, 1.001 for 3,000.
    """
    from scipy.special import ndtri, stdtrit

    factor = float(stdtrit(samples - 1, 0.975) / ndtri(0.975) * math.sqrt(samples / (samples - 1)))
    return Effect(effect.value, effect.value - factor * _below(effect), effect.value + factor * _above(effect))


def share_of_trials(share: float, trials: int) -> Effect:
    """A share of independent trials with the exact interval of Clopper and Pearson."""
    from scipy.stats import binomtest

    interval = binomtest(round(share * trials), trials).proportion_ci(0.95)
    return Effect(share, float(interval.low), float(interval.high))


def difference_of_independent(left: Effect, right: Effect) -> Effect:
    """Left − right of two independent estimates: their half-widths are added in quadrature, each side by itself.

    Source: Zou & Donner, Construction of confidence limits about effect measures: a general approach, Statistics in
    Medicine 27 (2008). Where both come from the same noise and so move together, it is too wide.
    """
    return Effect(
        left.value - right.value,
        left.value - right.value - math.hypot(_below(left), _above(right)),
        left.value - right.value + math.hypot(_above(left), _below(right)),
    )


def rank_correlation(x: ArrayLike, y: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Effect:
    """Spearman's rank correlation with the percentile interval of a bootstrap over the subjects.

    For normal pairs with a true correlation of 0 the interval held 0 in 87 % of draws of 5 subjects, and in 93 % or
    more of draws of 7, 9 and 12. With equal ranks in x and y every sample has correlation 1, and the interval has no
    width.

    Args:
        x: one number per subject.
        y: the other.
        resamples: how many samples of the subjects; those in which all of x or all of y are equal count for nothing.
        seed: of the draws.

    Returns:
        Not a number where all of x or all of y are equal.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(len(x), size=(resamples, len(x)))
    samples = _spearman(x[drawn], y[drawn])
    samples = samples[np.isfinite(samples)]
    value = float(_spearman(x, y))
    if not math.isfinite(value):
        return Effect(math.nan, math.nan, math.nan)
    low, high = np.quantile(samples, (0.025, 0.975))
    return Effect(value, float(low), float(high))


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlation of the ranks over the last axis; equal numbers share their mean rank."""
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=-1) for values in (x, y)]
    a, b = (values - values.mean(axis=-1, keepdims=True) for values in ranks)
    with np.errstate(invalid="ignore"):
        return np.clip((a * b).sum(axis=-1) / np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1)), -1, 1)


def _below(effect: Effect) -> float:
    # A percentile interval need not hold the estimate itself.
    return max(effect.value - effect.low, 0.0)


def _above(effect: Effect) -> float:
    return max(effect.high - effect.value, 0.0)
