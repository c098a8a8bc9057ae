"""A spectrum as a quadrature (nodes and weights, not all eigenvalues), and its density smoothed with a Gaussian."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SUM_TOLERANCE = 1e-5
"""Allowed error in the sum of a probe's weights, which may come from a text file."""


@dataclass(frozen=True)
class Spectrum:
    """The eigenvalue distribution of a symmetric matrix, estimated once per probe.

    ``Σ_j weights[p, j] · f(nodes[p, j])`` estimates ``trace(f(H)) / size`` for each probe p. Short rows are padded
    with one of their nodes at weight 0.

    Attributes:
        nodes: ``[probes, nodes]``, in the units of the matrix.
        weights: ``[probes, nodes]``, not negative, each row sums to 1.
        size: rows of the matrix; None if unknown.
    """

    nodes: Tensor
    weights: Tensor
    size: int | None = None

    def __post_init__(self) -> None:
        if self.nodes.dim() != 2 or self.nodes.shape != self.weights.shape or not self.nodes.numel():
            shapes = f"{list(self.nodes.shape)} and {list(self.weights.shape)}"
            raise ValueError(f"nodes and weights must both have the shape [probes, nodes], not {shapes}")
        if not self.nodes.isfinite().all():
            raise ValueError("a spectrum must have finite nodes")
        if (self.weights < 0).any() or ((self.weights.sum(1) - 1).abs() > SUM_TOLERANCE).any():
            raise ValueError("the weights of a spectrum must not be negative and must sum to 1 for each probe")

    @property
    def probes(self) -> int:
        """Number of independent estimates."""
        return len(self.nodes)

    @property
    def exact(self) -> bool:
        """Whether the nodes are all the eigenvalues: one row of equal weights."""
        return (
            self.probes == 1 and self.nodes.shape[1] == self.size and bool((self.weights == self.weights[0, 0]).all())
        )

    @property
    def smallest(self) -> float:
        """Smallest node, the estimate of λ_min."""
        return float(self.nodes.min())

    @property
    def largest(self) -> float:
        """Largest node, the estimate of λ_max."""
        return float(self.nodes.max())

    def moments(self, power: int) -> Tensor:
        """``[probes]``: each probe's estimate of trace(H^power) / size."""
        return (self.weights * self.nodes**power).sum(1)

    def pooled(self) -> tuple[Tensor, Tensor]:
        """Nodes and weights of the mean over probes, both ``[nodes]``; nodes that all probes share are not repeated."""
        if bool((self.nodes == self.nodes[:1]).all()):
            return self.nodes[0], self.weights.mean(0)
        return self.nodes.flatten(), self.weights.flatten() / self.probes

    def halves(self) -> tuple[Spectrum, Spectrum] | None:
        """The even and the odd probes, two estimates of the same matrix; None of a single probe."""
        if self.probes == 1:
            return None
        return (
            Spectrum(self.nodes[::2], self.weights[::2], self.size),
            Spectrum(self.nodes[1::2], self.weights[1::2], self.size),
        )

    def scaled(self, factor: float) -> Spectrum:
        """The spectrum of the matrix times ``factor``."""
        return Spectrum(self.nodes * factor, self.weights, self.size)


def stack_probes(rows: Sequence[tuple[Tensor, Tensor]], size: int | None) -> Spectrum:
    """One spectrum from the nodes and weights of single probes, which may differ in length.

    Args:
        rows: nodes and weights, both ``[nodes]``, of one probe each.
        size: rows of the matrix.
    """
    longest = max(len(nodes) for nodes, _ in rows)
    nodes = torch.stack([torch.cat([row, row[-1:].expand(longest - len(row))]) for row, _ in rows])
    weights = torch.stack([torch.cat([row, row.new_zeros(longest - len(row))]) for _, row in rows])
    return Spectrum(nodes, weights, size)


CHUNK = 2**22
"""Numbers in memory at once while a spectrum is smoothed."""


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
        # All eigenvalues are equal: any positive width will do.
        return self.value * ((largest - smallest) or abs(largest) or 1.0)


PUBLISHED = Smoothing(math.sqrt(1e-5))
"""σ² = 1e-5, as in the code of Zhang et al. 2024. It cannot tell blocks apart that are much narrower than 3e-3."""

RELATIVE = Smoothing(0.01, relative=True)
"""1 % of the range."""


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
        sigma: the Gaussian's standard deviation, absolute or relative.

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
