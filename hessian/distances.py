"""Distances between spectra: of two, and of all pairs of a model's blocks, each with its noise floor.

``js_distance``, ``js_divergence`` and ``sym_kl`` compare densities smoothed with a Gaussian, so they depend on its σ.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from .spectrum import PUBLISHED, RELATIVE, Smoothing, Spectrum, as_smoothing, density

CELLS_PER_SIGMA = 4
"""Resolution of the smoothed densities that are compared."""

REACH = 6
"""A Gaussian is cut off at this many standard deviations."""

FLOOR = 1e-12
"""The least probability of a cell in ``sym_kl``, without which spectra that do not overlap are infinitely far apart."""

DENSE_CELLS = 2**21
"""Up to this many cells the grid is dense between the outermost nodes, beyond it only cells near a node exist."""


def js_divergence(a: Spectrum, b: Spectrum, *, sigma: float | Smoothing, grid: Tensor | None = None) -> float:
    """Jensen–Shannon divergence ½ KL(p‖m) + ½ KL(q‖m), m = (p + q)/2, in bits, in [0, 1].

    Args:
        a: one spectrum.
        b: the other.
        sigma: the width of the smoothing; a relative one is relative to the range of both together.
        grid: ``[points]``, evenly spaced points at which to compare the densities; chosen for the pair by default.

    Source: Lin 1991, "Divergence measures based on the Shannon entropy", equation 4.1.
    """
    return js_divergence_of(*smoothed(a, b, sigma=sigma, grid=grid))


def js_distance(a: Spectrum, b: Spectrum, *, sigma: float | Smoothing, grid: Tensor | None = None) -> float:
    """Jensen–Shannon distance: the square root of ``js_divergence``, a metric, in [0, 1]; arguments as there.

    Source: Endres and Schindelin 2003, "A new metric for probability distributions".
    """
    return math.sqrt(js_divergence(a, b, sigma=sigma, grid=grid))


def sym_kl(
    a: Spectrum, b: Spectrum, *, sigma: float | Smoothing, grid: Tensor | None = None, floor: float = FLOOR
) -> float:
    """Symmetric Kullback–Leibler divergence ½ KL(p‖q) + ½ KL(q‖p) in bits, at least 0, unbounded.

    Args:
        a: one spectrum.
        b: the other.
        sigma: as in ``js_divergence``.
        grid: as in ``js_divergence``.
        floor: least probability of a cell, σ/4 wide; the value depends on it where the spectra hardly overlap.
    """
    return sym_kl_of(*smoothed(a, b, sigma=sigma, grid=grid), floor=floor)


def wasserstein1(a: Spectrum, b: Spectrum) -> float:
    """Wasserstein-1 distance ∫ |F_a(t) − F_b(t)| dt in the units of the eigenvalues; nothing is smoothed."""
    nodes, weights = zip(a.pooled(), b.pooled(), strict=True)
    points, order = torch.cat(nodes).double().sort()
    gap = torch.cat([weights[0], -weights[1]]).double()[order].cumsum(0)
    return float((gap[:-1].abs() * points.diff()).sum())


def scale_free(spectrum: Spectrum, by: str = "largest") -> Spectrum:
    """The spectrum divided by its own scale, so that only its shape remains.

    Args:
        spectrum: what to divide.
        by: ``largest``, its largest |λ|, or ``tenth``, its tenth largest eigenvalue. The tenth is that of the first
            probe: the nodes of several probes pooled hold λ₁ several times.

    Raises:
        ValueError: there is no such scale, or it is not positive.
    """
    if by == "largest":
        scale = float(spectrum.nodes.abs().max())
    elif by == "tenth":
        nodes = spectrum.nodes[0][spectrum.weights[0] > 0].sort(descending=True).values
        scale = float(nodes[9]) if len(nodes) >= 10 else 0.0
    else:
        raise ValueError(f"a spectrum is divided by its largest or its tenth eigenvalue, not by {by!r}")
    if scale <= 0:
        raise ValueError(f"a spectrum whose {by} eigenvalue is not positive cannot be divided by it")
    return spectrum.scaled(1 / scale)


def smoothed(
    a: Spectrum, b: Spectrum, *, sigma: float | Smoothing, grid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Both densities as probabilities of the same cells, ``[cells]``, each summing to 1."""
    width = as_smoothing(sigma).width(a, b)
    if grid is not None:
        p, q = (density(spectrum, grid, sigma=width) for spectrum in (a, b))
        return p / p.sum(), q / q.sum()
    cell = width / CELLS_PER_SIGMA
    offsets = torch.arange(-REACH * CELLS_PER_SIGMA, REACH * CELLS_PER_SIGMA + 1)
    cells, masses = [], []
    for spectrum in (a, b):
        nodes, weights = (column.cpu().double()[:, None] for column in spectrum.pooled())
        near = (nodes / cell).round().long() + offsets
        kernel = torch.exp(-0.5 * ((near * cell - nodes) / width) ** 2)
        cells.append(near.flatten())
        masses.append((weights * kernel / kernel.sum(1, keepdim=True)).flatten())
    positions, count = _number(torch.cat(cells))
    split = positions.split([len(part) for part in cells])
    p, q = (mass.new_zeros(count).index_add_(0, place, mass) for place, mass in zip(split, masses, strict=True))
    return p, q


def js_divergence_of(p: Tensor, q: Tensor) -> float:
    """``js_divergence`` of two probability vectors."""
    middle = (p + q) / 2
    # 0 · log 0 is 0; where the mean is zero both are.
    total = sum(torch.special.xlogy(x, torch.where(x > 0, x / middle, 1.0)).sum() for x in (p, q))
    return min(1.0, max(0.0, float(total) / (2 * math.log(2))))


def sym_kl_of(p: Tensor, q: Tensor, *, floor: float = FLOOR) -> float:
    """``sym_kl`` of two probability vectors."""
    p, q = p.clamp(min=floor), q.clamp(min=floor)
    return float(((p - q) * (p / q).log2()).sum()) / 2


def _number(cells: Tensor) -> tuple[Tensor, int]:
    """Positions of the cells in a vector, and its length."""
    lowest, highest = int(cells.min()), int(cells.max())
    if highest - lowest < DENSE_CELLS:
        return cells - lowest, highest - lowest + 1
    known, positions = cells.unique(return_inverse=True)
    return positions, len(known)


SCALE_FREE = "scale_free_"
"""Before the name of a measure: each spectrum was first divided by its own largest |λ|."""

MEASURES = ("js_distance", "js_divergence", "sym_kl", "wasserstein1")
"""The last needs no smoothing and is in the units of the eigenvalues; the others compare densities, in bits."""


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
        key: Heterogeneity(fmean(row.value for row in group), fmean(row.noise_floor for row in group))
        for key, group in groups.items()
    }


def distance_matrix(
    rows: Iterable[DistanceRow], blocks: Sequence[str], measure: str, sigma: str
) -> tuple[Tensor, Tensor]:
    """Distances and noise floors as symmetric matrices ``[blocks, blocks]``, for a heat map.

    Args:
        rows: what ``distance_rows`` gives.
        blocks: names in the order wanted.
        measure: as the rows spell it.
        sigma: likewise.

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
        widths = {str(smoothing): smoothing.width(a, b) for smoothing in smoothings}
        for sigma, width in [*widths.items(), ("", None)]:
            noise_a, noise_b = _noise(a, width), _noise(b, width)
            for measure, value in _compare(a, b, width).items():
                # Unlike max, it is nan if either of the two is.
                floor = float(np.maximum(noise_a[measure], noise_b[measure]))
                yield DistanceRow(name_a, name_b, prefix + measure, sigma, value, floor)


def _compare(a: Spectrum, b: Spectrum, width: float | None) -> dict[str, float]:
    """The measures that compare densities of that width, or the one that needs none."""
    if width is None:
        return {"wasserstein1": wasserstein1(a, b)}
    p, q = smoothed(a, b, sigma=width)
    divergence = js_divergence_of(p, q)
    return {"js_distance": math.sqrt(divergence), "js_divergence": divergence, "sym_kl": sym_kl_of(p, q)}


def _noise(spectrum: Spectrum, width: float | None) -> dict[str, float]:
    """The distances of the two halves of a spectrum's probes."""
    halves = spectrum.halves()
    if spectrum.exact or halves is None:
        return dict.fromkeys(MEASURES, 0.0 if spectrum.exact else math.nan)
    return _compare(*halves, width)
