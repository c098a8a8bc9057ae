"""Extreme-value estimators of the tail index α = 1/ξ from the k largest magnitudes x₍₁₎ ≥ x₍₂₎ ≥ … of a sample."""

from __future__ import annotations

import numpy as np

from .series import Array, Series, Statistic, reciprocal, row_means


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
        tells_variance=True,
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

    return Statistic(name, features, heaviness, reciprocal, standard_error, tells_variance=True)


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
