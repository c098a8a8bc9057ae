"""Distances between two spectra.

The information measures compare smoothed densities and are in bits; each says nothing without its σ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .smoothing import Smoothing, as_smoothing, density
from .spectrum import Spectrum

CELLS_PER_SIGMA = 4
"""Resolution of the smoothed densities that are compared."""

REACH = 6
"""Beyond this many standard deviations a Gaussian counts as zero."""

FLOOR = 1e-12
"""The least probability of a cell in ``sym_kl``: without it, spectra that nowhere overlap are infinitely far apart."""

DENSE_CELLS = 2**21
"""Up to this many cells every cell between the outermost nodes is held, beyond it only those near a node."""


def js_divergence(a: Spectrum, b: Spectrum, *, sigma: float | Smoothing, grid: Tensor | None = None) -> float:
    """Jensen–Shannon divergence ½ KL(p‖m) + ½ KL(q‖m), m = (p + q)/2, in bits, in [0, 1].

    Args:
        a: one spectrum.
        b: the other.
        sigma: the width of the smoothing; a relative one is relative to the range of both together.
        grid: ``[points]``, evenly spaced points to compare the densities at, instead of those chosen for the pair.

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
    """The spectrum divided by its own scale, so that only its shape is left.

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
