"""Measures of how much of a sample's energy its largest values hold; all are bounded, so sparse series can be asked."""

from __future__ import annotations

import numpy as np

from .series import Array, Series, Statistic, row_means


def kurtosis() -> Statistic:
    """Mean over the series of the excess kurtosis n Σ(x − x̄)⁴/(Σ(x − x̄)²)² − 3: about 0 for Gaussian values."""

    def features(series: Series) -> Array:
        return _fourth_over_second(series.values - row_means(series.values)[..., None])

    return Statistic("kurtosis", features, lambda features: np.log(features[..., 0]), lambda score: np.exp(score) - 3)


def max_share() -> Statistic:
    """Max/sum ratio max x²/Σx²: it tends to 0 as a series grows exactly if the law has a finite variance.

    Embrechts, Klüppelberg and Mikosch (1997), "Modelling Extremal Events", section 6.2.6.
    """

    def features(series: Series) -> Array:
        largest = series.largest(1)[..., 0]
        return (largest**2 / (series.values.shape[-1] * row_means(series.values**2)))[..., None]

    return Statistic("max_share", features, lambda features: np.log(features[..., 0]), np.exp)


def dispersion() -> Statistic:
    """Relative variance of the squares, mean x⁴/(mean x²)² − 1, for noise norms: 2 tr Σ²/(tr Σ)² if Gaussian."""

    def features(series: Series) -> Array:
        return _fourth_over_second(series.values)

    return Statistic("dispersion", features, lambda features: np.log(features[..., 0]), lambda score: np.exp(score) - 1)


def quantile(probability: float, unit: float) -> Statistic:
    """A quantile of positive data that was divided by ``unit``, given back in the data's own units."""
    return Statistic(
        f"quantile_{probability:g}",
        lambda series: np.log(series.quantile(probability))[..., None],
        lambda features: features[..., 0],
        lambda score: np.exp(score) * unit,
        describes=True,
    )


def _fourth_over_second(values: Array) -> Array:
    """Mean fourth power over squared mean square of each series, ``[..., series, 1]``."""
    squares = values * values
    return (row_means(squares * squares) / row_means(squares) ** 2)[..., None]
