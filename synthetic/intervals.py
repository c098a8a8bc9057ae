"""Statistics over trials with bootstrap intervals; main effects and interactions in a factorial design."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Array = NDArray[np.float64]

QUANTILES = {"median": 0.5, "quantile_90": 0.9, "quantile_99": 0.99}
STATISTICS = ("mean", *QUANTILES)


def statistics(values: Array) -> dict[str, Array]:
    """Mean, median, and the upper quantiles over the last axis."""
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=-1)
    return {"mean": values.mean(axis=-1)} | dict(zip(QUANTILES, quantiles, strict=True))


def resampled(
    values: ArrayLike, statistic: Callable[[Array], dict[str, Array]], resamples: int, seed: int
) -> dict[str, Array]:
    """The statistics of bootstrap samples: trials drawn with replacement, all entries of a trial together.

    The bootstrap is not valid for the mean of a law without a finite variance: its intervals are then too narrow.

    Args:
        values: ``[..., trials]``.
        statistic: from ``[..., trials]`` to arrays by name.
        resamples: how many samples.
        seed: of the draws.

    Returns:
        By name ``[resamples, ...]``.
    """
    values = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    trials = values.shape[-1]
    drawn = [statistic(values[..., generator.integers(trials, size=trials)]) for _ in range(resamples)]
    return {name: np.stack([draw[name] for draw in drawn]) for name in drawn[0]}


def ends(samples: Array) -> tuple[Array, Array]:
    """The central 95 % of the samples ``[resamples, ...]``, from sample to sample: infinite ones are in order."""
    return np.quantile(samples, 0.025, axis=0, method="lower"), np.quantile(samples, 0.975, axis=0, method="higher")


def log_slope(x: ArrayLike, y: ArrayLike) -> Array:
    """The power p of y ∝ x^p, by least squares on logarithms.

    Args:
        x: ``[points]``, above 0.
        y: ``[..., points]``, above 0.

    Returns:
        ``[...]``.
    """
    logarithms = np.log(np.asarray(x, dtype=np.float64))
    centred = logarithms - logarithms.mean()
    return np.log(np.asarray(y, dtype=np.float64)) @ centred / (centred @ centred)


def effects(values: Tensor, contrasts: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Tensor]:
    """Every main effect and every interaction of two or more factors.

    A main effect is a contrast between the levels of one factor, the mean over all levels of the others. An interaction
    is a contrast of contrasts: by how much the effect of one factor differs between the levels of another.

    Args:
        values: ``[levels of factor 1, levels of factor 2, …, samples]``.
        contrasts: for each factor the weights ``[levels]`` of its contrasts by name, such as ``{"on": (-1, 1)}``.

    Returns:
        ``[samples]`` by name; the names of an interaction are joined by `` x ``.
    """
    results: dict[str, Tensor] = {}
    for order in range(1, len(contrasts) + 1):
        for factors in combinations(range(len(contrasts)), order):
            named: dict[str, Tensor] = {"": values}
            for factor in range(len(contrasts)):
                # Each contraction removes the first of the remaining factors.
                weights = contrasts[factor] if factor in factors else {"": _mean(values.shape[factor])}
                named = {
                    " x ".join(filter(None, (earlier, name))): torch.tensordot(_like(weight, values), part, dims=1)
                    for earlier, part in named.items()
                    for name, weight in weights.items()
                }
            results |= named
    return results


def _mean(levels: int) -> list[float]:
    return [1 / levels] * levels


def _like(weights: Sequence[float], values: Tensor) -> Tensor:
    return torch.tensor(weights, dtype=values.dtype)
