"""Statistics over trials or seeds with bootstrap intervals; main effects and interactions in a factorial design."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..seeds import derive_seed

Array = NDArray[np.float64]

STATISTICS = ("mean", "median", "quantile_90", "quantile_99")


def statistics(values: Array) -> Array:
    """The ``STATISTICS`` of ``[..., trials]`` over its last axis, ``[statistics, ...]``."""
    return np.concatenate([values.mean(axis=-1)[None], np.quantile(values, [0.5, 0.9, 0.99], axis=-1)])


def resampled(values: ArrayLike, statistic: Callable[[Array], Array], resamples: int, seed: int) -> Array:
    """The statistic of bootstrap samples: trials drawn with replacement, all entries of a trial together.

    The bootstrap is not valid for the mean of a law without a finite variance: its intervals are then too narrow.

    Args:
        values: ``[..., trials]``.
        statistic: of an array of that shape.
        resamples: how many samples.
        seed: of the draws.

    Returns:
        ``[resamples, ...]``.
    """
    values = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    trials = values.shape[-1]
    return np.stack([statistic(values[..., generator.integers(trials, size=trials)]) for _ in range(resamples)])


def ends(samples: Array) -> tuple[Array, Array]:
    """The central 95 % of the samples ``[resamples, ...]``, from sample to sample: infinite ones are in order."""
    return np.quantile(samples, 0.025, axis=0, method="lower"), np.quantile(samples, 0.975, axis=0, method="higher")


def resamples(seeds: int, count: int, seed: int) -> Tensor:
    """Bootstrap samples of the seeds, int64 ``[count, seeds]``; those of one ``seed`` pair results of several rules."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "bootstrap"))
    return torch.randint(seeds, (count, seeds), generator=generator)


def with_interval(
    statistic: Callable[[Tensor], Tensor], seeds: int, count: int = 2000, seed: int = 0
) -> dict[str, float]:
    """A statistic of the seeds as ``value``, its 95 % percentile interval as ``ci_low`` and ``ci_high``.

    Args:
        statistic: of samples of the seeds: from int64 ``[samples, seeds]`` to ``[samples]``.
        seeds: how many there are.
        count: bootstrap samples.
        seed: of these samples.
    """
    low, high = ends(statistic(resamples(seeds, count, seed)).numpy())
    return {"value": float(statistic(torch.arange(seeds)[None])), "ci_low": float(low), "ci_high": float(high)}


def log_slope(x: ArrayLike, y: ArrayLike) -> Array:
    """The power p of y ∝ x^p, by least squares on logarithms: of ``[points]`` and ``[..., points]``, ``[...]``."""
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
            for factor, levels in enumerate(values.shape[:-1]):
                # Each contraction removes the first of the remaining factors.
                weights = contrasts[factor] if factor in factors else {"": [1 / levels] * levels}
                named = {
                    " x ".join(filter(None, (earlier, name))): torch.tensordot(values.new_tensor(weight), part, dims=1)
                    for earlier, part in named.items()
                    for name, weight in weights.items()
                }
            results |= named
    return results
