"""How much the blocks of a model differ: distances of all pairs, each with its noise floor."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from .distances import js_divergence_of, scale_free, smoothed, sym_kl_of, wasserstein1
from .smoothing import PUBLISHED, RELATIVE, Smoothing
from .spectrum import Spectrum

SCALE_FREE = "scale_free_"
"""Before the name of a measure: each spectrum was first divided by its own largest |λ|."""

INFORMATION = ("js_distance", "js_divergence", "sym_kl")
"""Measures that compare smoothed densities, in bits."""

TRANSPORT = ("wasserstein1",)
"""Measures that need no smoothing, in the units of the eigenvalues."""

Compare = Callable[[Spectrum, Spectrum], Tensor]
"""From two spectra to the values of several measures, ``[measures]``."""


@dataclass(frozen=True)
class DistanceRow:
    """One distance between two blocks, a row of ``distances.csv``.

    Attributes:
        block_a: name of one block.
        block_b: name of the other.
        measure: a function of ``distances``, with ``scale_free_`` before it if each spectrum was divided by its own
            largest |λ|.
        sigma: the smoothing, absolute or as a percentage of the pair's range; empty where nothing is smoothed.
        value: the distance.
        noise_floor: the distance of two halves of one block's probes, the larger of the two blocks'; nan of a block
            with a single probe. Each half has half the probes, so the noise of ``value`` is smaller.
    """

    block_a: str
    block_b: str
    measure: str
    sigma: str
    value: float
    noise_floor: float


@dataclass(frozen=True)
class Heterogeneity:
    """The mean of a distance over all pairs of blocks and the mean of its noise floor."""

    value: float
    noise_floor: float


def distance_rows(
    spectra: Mapping[str, Spectrum], smoothings: Sequence[Smoothing] = (PUBLISHED, RELATIVE)
) -> Iterator[DistanceRow]:
    """Every measure, raw and scale-free, under every smoothing, for every pair of blocks.

    A block that is zero has no scale and takes no part in the scale-free distances.

    Args:
        spectra: by name of the block.
        smoothings: absolute ones are left out of the scale-free distances, in which the eigenvalues have no units.
    """
    yield from _rows(spectra, "", smoothings)
    scaled = {name: scale_free(s) for name, s in spectra.items() if s.nodes.abs().max() > 0}
    yield from _rows(scaled, SCALE_FREE, [smoothing for smoothing in smoothings if smoothing.relative])


def heterogeneity(rows: Iterable[DistanceRow]) -> dict[tuple[str, str], Heterogeneity]:
    """The mean over pairs i < j for each measure and smoothing.

    With the Jensen–Shannon distance at initialisation it is the JS⁰ of Zhang et al. 2024 (arXiv:2402.16788).

    Args:
        rows: what ``distance_rows`` gives.

    Returns:
        By measure and sigma, both as the rows spell them.
    """
    groups: dict[tuple[str, str], list[DistanceRow]] = defaultdict(list)
    for row in rows:
        groups[row.measure, row.sigma].append(row)
    return {
        key: Heterogeneity(_mean(row.value for row in group), _mean(row.noise_floor for row in group))
        for key, group in groups.items()
    }


def distance_matrix(
    rows: Iterable[DistanceRow], blocks: Sequence[str], measure: str, sigma: str
) -> tuple[Tensor, Tensor]:
    """Distances and noise floors as symmetric matrices ``[blocks, blocks]``, for a heat map.

    Args:
        rows: what ``distance_rows`` gives.
        blocks: names in the order wanted.
        measure: which measure.
        sigma: which smoothing, as the rows spell it.

    Returns:
        The distances, 0 on the diagonal, and the noise floors; nan where there is no row.
    """
    place = {name: i for i, name in enumerate(blocks)}
    values = torch.full((len(blocks), len(blocks)), math.nan, dtype=torch.float64).fill_diagonal_(0.0)
    floors = torch.full_like(values, math.nan)
    for row in rows:
        if row.measure == measure and row.sigma == sigma and {row.block_a, row.block_b} <= place.keys():
            i, j = place[row.block_a], place[row.block_b]
            values[i, j] = values[j, i] = row.value
            floors[i, j] = floors[j, i] = row.noise_floor
    return values, floors


def _rows(spectra: Mapping[str, Spectrum], prefix: str, smoothings: Sequence[Smoothing]) -> Iterator[DistanceRow]:
    for (name_a, a), (name_b, b) in combinations(spectra.items(), 2):
        comparisons: list[tuple[tuple[str, ...], str, Compare]] = [
            (INFORMATION, str(smoothing), partial(_information, width=smoothing.width(a, b)))
            for smoothing in smoothings
        ]
        comparisons.append((TRANSPORT, "", _transport))
        for measures, sigma, compare in comparisons:
            # maximum, unlike max, is nan if either of the two is.
            floors = torch.maximum(_noise(a, compare, len(measures)), _noise(b, compare, len(measures)))
            for measure, value, floor in zip(measures, compare(a, b).tolist(), floors.tolist(), strict=True):
                yield DistanceRow(name_a, name_b, prefix + measure, sigma, value, floor)


def _information(a: Spectrum, b: Spectrum, width: float) -> Tensor:
    p, q = smoothed(a, b, sigma=width)
    divergence = js_divergence_of(p, q)
    return torch.tensor([math.sqrt(divergence), divergence, sym_kl_of(p, q)], dtype=torch.float64)


def _transport(a: Spectrum, b: Spectrum) -> Tensor:
    return torch.tensor([wasserstein1(a, b)], dtype=torch.float64)


def _noise(spectrum: Spectrum, compare: Compare, measures: int) -> Tensor:
    """The distances of the two halves of a spectrum's probes."""
    if spectrum.exact:
        return torch.zeros(measures, dtype=torch.float64)
    halves = spectrum.halves()
    return torch.full((measures,), math.nan, dtype=torch.float64) if halves is None else compare(*halves)


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return math.fsum(values) / len(values)
