"""Main effects and interactions of factors that were varied in all combinations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor


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
