"""The tail index α = 1/ξ of one sample.

``hill``, ``moment`` and ``pickands`` use the k largest magnitudes x₍₁₎ ≥ x₍₂₎ ≥ …; ``mcculloch``, ``ecf`` and ``block``
assume a symmetric α-stable law and mislead on any other. An answer above 2 from one of these, where no stable law
exists, means a tail lighter than Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .statistics import (
    NORMAL_QUANTILE,
    Array,
    Series,
    Statistic,
    interval,
    jackknife,
    jackknife_quantile,
    reciprocal,
    row_means,
)


def hill(k: int, name: str = "hill") -> Statistic:
    """ξ̂ = (1/k) Σ_{i≤k} ln x₍ᵢ₎ − ln x₍ₖ₊₁₎; α̂ has the asymptotic standard error α̂/√k.

    Hill (1975), "A simple general approach to inference about the tail of a distribution", Annals of Statistics 3.
    """
    return Statistic(
        name=name,
        features=lambda series: row_means(_log_excesses(series, k))[..., None],
        heaviness=lambda features: np.log(features[..., 0]),
        value=lambda score: np.exp(-score),
        standard_error=lambda score: np.full_like(score, k**-0.5),
    )


def moment(k: int, name: str = "moment") -> Statistic:
    """ξ̂ = M₁ + 1 − ½/(1 − M₁²/M₂) with M_j the mean j-th power of the log-excesses; ξ̂ ≤ 0 is a light tail, α = ∞.

    Dekkers, Einmahl and de Haan (1989), "A moment estimator for the index of an extreme-value distribution", Annals of
    Statistics 17; the standard error is the one given there.
    """

    def features(series: Series) -> Array:
        excesses = _log_excesses(series, k)
        return np.stack([row_means(excesses), row_means(excesses**2)], axis=-1)

    def heaviness(features: Array) -> Array:
        first, second = features[..., 0], features[..., 1]
        return first + 1 - 0.5 / (1 - first**2 / second)

    def standard_error(xi: Array) -> Array:
        light = np.minimum(xi, 0)
        numerator = (1 - light) ** 2 * (1 - 2 * light) * (1 - light + 6 * light**2)
        below_zero = numerator / ((1 - 3 * light) * (1 - 4 * light))
        return np.sqrt(np.where(xi >= 0, 1 + xi**2, below_zero) / k)

    return Statistic(name, features, heaviness, reciprocal, standard_error)


def pickands(k: int, name: str = "pickands") -> Statistic:
    """ξ̂ = ln[(x₍ₖ₎ − x₍₂ₖ₎)/(x₍₂ₖ₎ − x₍₄ₖ₎)]/ln 2: noisy, and unchanged when the sample is moved or stretched.

    Pickands (1975), "Statistical inference using extreme order statistics", Annals of Statistics 3; the standard error
    is that of Dekkers and de Haan (1989), "On the estimation of the extreme-value index", Annals of Statistics 17.
    """

    def features(series: Series) -> Array:
        top = series.largest(4 * k)
        upper = top[..., k - 1] - top[..., 2 * k - 1]
        lower = top[..., 2 * k - 1] - top[..., 4 * k - 1]
        rounding = 4 * np.finfo(top.dtype).eps * top[..., 2 * k - 1]
        return np.log2(upper / np.where(lower > rounding, lower, np.nan))[..., None]

    def standard_error(xi: Array) -> Array:
        near_zero = np.abs(xi) < 1e-6
        safe = np.where(near_zero, 1.0, xi)
        slope = np.where(near_zero, 1 / np.log(2), safe / np.expm1(safe * np.log(2)))
        return slope * np.sqrt((2 ** (2 * xi + 1) + 1) / k) / (2 * np.log(2))

    return Statistic(name, features, lambda features: features[..., 0], reciprocal, standard_error)


def _log_excesses(series: Series, k: int) -> Array:
    logarithms = np.log(series.largest(k + 1))
    return logarithms[..., :k] - logarithms[..., k:]


QUANTILE_RATIOS = (2.439, 2.5, 2.6, 2.7, 2.8, 3.0, 3.2, 3.5, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 25.0)
ALPHAS = (2.0, 1.916, 1.808, 1.729, 1.664, 1.563, 1.484, 1.391, 1.279, 1.128, 1.029, 0.896, 0.818, 0.698, 0.593)
"""McCulloch's table for symmetric laws: the index that belongs to each ratio of quantile distances."""

POINTS = 0.15 * np.array([1, 2, 4, 8])
"""Where the characteristic function is read: the range of Koutrouvelis's ten points πj/25, in steps by a factor 2."""


def mcculloch() -> Statistic:
    """Table look-up of ν = (q₉₅ − q₀₅)/(q₇₅ − q₂₅); α is at most 2 and at least 0.593, the ends of the table.

    McCulloch (1986), "Simple consistent estimators of stable distribution parameters", Communications in Statistics 15.
    """

    def features(series: Series) -> Array:
        wide = series.quantile(0.95) - series.quantile(0.05)
        narrow = series.quantile(0.75) - series.quantile(0.25)
        return np.log(wide / narrow)[..., None]

    def value(score: Array) -> Array:
        return np.interp(np.exp(score), QUANTILE_RATIOS, ALPHAS)

    return Statistic("mcculloch", features, lambda features: features[..., 0], value)


def ecf() -> Statistic:
    """Slope of ln(−ln|φ̂(t)|²) against ln t, for the empirical characteristic function φ̂ of the standardised sample.

    The law being symmetric, φ̂(t) is the mean of cos(tx). Koutrouvelis (1980), "Regression-type estimation of the
    parameters of stable laws", JASA 75.
    """
    centred = np.log(POINTS) - np.log(POINTS).mean()
    weights = centred / (centred**2).sum()

    def features(series: Series) -> Array:
        # cos 2θ = 2 cos² θ − 1: one cosine a value instead of four.
        cosine = np.cos(float(POINTS[0]) * series.standardised)
        means = [row_means(cosine)]
        for _ in POINTS[1:]:
            cosine *= cosine
            cosine *= 2
            cosine -= 1
            means.append(row_means(cosine))
        return np.stack(means, axis=-1)

    def heaviness(features: Array) -> Array:
        modulus = np.clip(features, 1e-9, 1 - 1e-9)
        return -np.log(-2 * np.log(modulus)) @ weights

    return Statistic("ecf", features, heaviness, np.negative)


def block(length: int) -> Statistic:
    """1/α̂ = [mean ln|Y| − mean ln|X|]/ln m, where each Y is the sum of ``length`` = m consecutive X.

    Mohammadi, Mohammadpour and Ogata (2015), "On estimating the tail index and the spectral measure of multivariate
    α-stable distributions", Metrika 78: corollary 2.4.
    """

    def features(series: Series) -> Array:
        values = series.values
        blocks = values.shape[-1] // length
        used = values[..., : blocks * length]
        sums = used.reshape(*values.shape[:-1], blocks, length).sum(axis=-1)
        # What lies below the rounding error of the largest value may be exactly zero, whose logarithm would be all.
        floor = np.finfo(values.dtype).eps * series.largest(1)
        gain = row_means(np.log(np.maximum(np.abs(sums), floor))) - row_means(np.log(np.maximum(np.abs(used), floor)))
        return gain[..., None] / np.log(length)

    return Statistic("block", features, lambda features: features[..., 0], reciprocal)


FEWEST_SAMPLES = 20
TAIL_FRACTION = 0.05


@dataclass(frozen=True)
class TailEstimate:
    """A tail index with its 95 % interval.

    Attributes:
        alpha: P(|X| > x) falls like x^-alpha; infinite for a tail that falls faster than any power.
        ci_low: lower end of the interval.
        ci_high: upper end of the interval.
        samples: number of values in the sample.
        estimator: name of the estimator.
    """

    alpha: float
    ci_low: float
    ci_high: float
    samples: int
    estimator: str


@np.errstate(divide="ignore", invalid="ignore")
def tail_index(samples: ArrayLike, estimator: str, **options: int) -> TailEstimate:
    """Estimate the tail index α of independent values from one law.

    Do not pool values of unequal scale: Gaussian values of unequal scale look heavy-tailed to every estimator.
    ``tail_report`` is the tool for a matrix of gradient noise.

    Args:
        samples: ``[n]`` values: positive ones (noise norms) for ``hill``, ``moment`` and ``pickands``; values
            symmetric about zero for ``mcculloch``, ``ecf`` and ``block``, which all assume an α-stable law.
        estimator: one of those six names; formulas and papers stand in this module.
        **options: ``k``, the number of largest values used, for the positive estimators (5 % of the sample unless
            given; ``pickands`` looks at the 4k largest); ``length`` of a block for ``block`` (√n unless given).

    Returns:
        The estimate. Its interval is asymptotic for the positive estimators (the standard error of Hill's α̂ is α̂/√k,
        taken on the logarithmic scale); for the stable-law ones it comes from leaving out sixteenths of the sample.

    Raises:
        ValueError: an unknown estimator or option, an option out of range, fewer than 20 values, NaN or infinite
            values, values that are not positive where they must be, too many equal values to find a scale, or, for
            ``block``, mostly exact zeros: sums of zeros grow like those of a law without a mean.
    """
    if estimator not in _ESTIMATORS:
        raise ValueError(f"estimator: {estimator!r} is not one of {', '.join(_ESTIMATORS)}")
    values = _checked(samples, estimator)
    statistic = _ESTIMATORS[estimator](len(values), options)
    if options:
        raise ValueError(f"{estimator}: unknown option {', '.join(options)}")

    score = statistic(Series(values[None]))
    if not np.isfinite(score):
        raise ValueError(f"{estimator}: too many of the {len(values)} samples are equal or zero to find a tail index")
    if statistic.standard_error is not None:
        half_width = NORMAL_QUANTILE * float(statistic.standard_error(score))
    else:
        error = jackknife(lambda kept: statistic(Series(values[kept][:, None])), len(values))
        half_width = jackknife_quantile(len(values)) * float(error)
    low, high = interval(statistic, float(score), half_width)
    return TailEstimate(float(statistic.value(score)), low, high, len(values), estimator)


def tail_index_path(samples: ArrayLike, estimator: str, ks: Iterable[int]) -> list[TailEstimate]:
    """One estimate for each k of a range: a tail index can be trusted where the path is level.

    Args:
        samples: ``[n]`` positive values.
        estimator: ``hill``, ``moment`` or ``pickands``.
        ks: numbers of largest values to use.

    Raises:
        ValueError: as ``tail_index``.
    """
    return [tail_index(samples, estimator, k=k) for k in ks]


def _checked(samples: ArrayLike, estimator: str) -> Array:
    values = np.asarray(samples, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"{estimator}: samples must have one dimension, not {values.ndim}")
    if len(values) < FEWEST_SAMPLES:
        raise ValueError(f"{estimator}: {len(values)} samples are too few, at least {FEWEST_SAMPLES} are needed")
    if not np.isfinite(values).all():
        raise ValueError(f"{estimator}: samples must be finite, {np.count_nonzero(~np.isfinite(values))} are not")
    if estimator in ("hill", "moment", "pickands") and (values <= 0).any():
        raise ValueError(f"{estimator}: samples must be positive, give it norms or magnitudes")
    zeros = np.count_nonzero(values == 0)
    if estimator == "block" and 2 * zeros > len(values):
        raise ValueError(f"block: {zeros} of the {len(values)} samples are exactly zero, their sums tell no tail index")
    return values


def _option(options: dict[str, int], name: str, default: int, smallest: int, largest: int) -> int:
    """Take an option out of ``options``, or its default, if it is in range."""
    value = options.pop(name, default)
    if not isinstance(value, int | np.integer) or not smallest <= value <= largest:
        raise ValueError(f"{name}: {value} must be a whole number in {smallest}..{largest} for this sample")
    return value


_Builder = Callable[[int, dict[str, int]], Statistic]

_ESTIMATORS: dict[str, _Builder] = {
    "hill": lambda n, options: hill(_option(options, "k", round(TAIL_FRACTION * n), 1, n - 1)),
    "moment": lambda n, options: moment(_option(options, "k", max(2, round(TAIL_FRACTION * n)), 2, n - 1)),
    "pickands": lambda n, options: pickands(_option(options, "k", round(TAIL_FRACTION * n), 1, n // 4)),
    "mcculloch": lambda n, options: mcculloch(),
    "ecf": lambda n, options: ecf(),
    "block": lambda n, options: block(_option(options, "length", math.isqrt(n), 2, n // 2)),
}
