"""Densities: spectra smoothed with a Gaussian."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .spectrum import Spectrum

CHUNK = 2**22
"""Most numbers that smoothing a spectrum holds at once."""


@dataclass(frozen=True)
class Smoothing:
    """How wide the Gaussian is.

    Attributes:
        value: the standard deviation, in the units of the eigenvalues or as a share of their range.
        relative: whether it is a share of the range.
    """

    value: float
    relative: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.value < math.inf:
            raise ValueError(f"sigma: the width of the smoothing must be positive, not {self.value}")

    def __str__(self) -> str:
        return f"{100 * self.value:g}%" if self.relative else f"{self.value:.6g}"

    def width(self, *spectra: Spectrum) -> float:
        """σ in the units of the eigenvalues; the range is that of all the spectra together."""
        if not self.relative:
            return self.value
        smallest, largest = min(s.smallest for s in spectra), max(s.largest for s in spectra)
        # All eigenvalues equal: any width shows that, but zero cannot be divided by.
        return self.value * ((largest - smallest) or abs(largest) or 1.0)


PUBLISHED = Smoothing(math.sqrt(1e-5))
"""σ² = 1e-5, as in the code of Zhang et al. 2024. Blocks much narrower than 3e-3 look all alike under it."""

RELATIVE = Smoothing(0.01, relative=True)
"""One per cent of the range."""


def smoothing_grid(*spectra: Spectrum, sigma: float | Smoothing, points: int = 2000) -> Tensor:
    """Evenly spaced points ``[points]`` that reach six σ beyond all nodes of the spectra."""
    width = as_smoothing(sigma).width(*spectra)
    smallest, largest = min(s.smallest for s in spectra), max(s.largest for s in spectra)
    return torch.linspace(smallest - 6 * width, largest + 6 * width, points, dtype=torch.float64)


def density(spectrum: Spectrum, grid: Tensor, *, sigma: float | Smoothing = PUBLISHED) -> Tensor:
    """The density φ(t) = Σ_j w_j · N(t; λ_j, σ²), the mean over probes.

    Args:
        spectrum: the nodes and weights.
        grid: ``[points]``, where to evaluate it.
        sigma: the Gaussian's standard deviation, or how to find it.

    Returns:
        ``[points]`` in float64; integrates to 1 over all numbers.
    """
    width = as_smoothing(sigma).width(spectrum)
    nodes, weights = (column.double() for column in spectrum.pooled())
    values = [
        torch.exp(-0.5 * ((part[:, None] - nodes) / width) ** 2) @ weights
        for part in grid.double().split(max(1, CHUNK // len(nodes)))
    ]
    return torch.cat(values) / (width * math.sqrt(2 * math.pi))


def as_smoothing(sigma: float | Smoothing) -> Smoothing:
    """A plain number is an absolute width."""
    return sigma if isinstance(sigma, Smoothing) else Smoothing(sigma)
