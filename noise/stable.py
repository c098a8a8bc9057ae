"""Estimators of the index α of a symmetric α-stable law; on any other law they answer, but with a number that misleads.

Above 2 a stable law does not exist: where an estimator can answer so, it says "lighter than Gaussian".
"""

from __future__ import annotations

import numpy as np

from .series import Array, Series, Statistic, reciprocal, row_means

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
