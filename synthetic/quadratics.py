"""Quadratics L(w) = ½ wᵀHw with given eigenvalues, many at once, and the iterations that a method needs on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ..data.quadratic import Blocks, merged, rotated_blocks, spans
from .trials import Rule

HETEROGENEOUS: Blocks = ((1, 2, 3), (99, 100, 101), (4998, 4999, 5000))
HOMOGENEOUS: Blocks = ((1, 99, 4998), (2, 100, 4999), (3, 101, 5000))
"""The same nine eigenvalues, separated and mixed. Source: Zhang et al., "Why Transformers Need Adam: A Hessian
Perspective", NeurIPS 2024, arXiv:2402.16788."""


@dataclass(frozen=True)
class Quadratics:
    """One quadratic per trial, all with the same eigenvalues.

    Attributes:
        hessian: ``[trials, size, size]``.
        start: the first point, ``[trials, size]``.
        sizes: of the diagonal blocks.
    """

    hessian: Tensor
    start: Tensor
    sizes: tuple[int, ...]

    def gradient(self, w: Tensor) -> Tensor:
        """Hw for points ``[..., trials, size]``."""
        return torch.einsum("tij,...tj->...ti", self.hessian, w)

    def blocks(self) -> list[Tensor]:
        """The diagonal blocks ``[trials, n, n]``."""
        return [self.hessian[:, span, span] for span in spans(self.sizes)]

    def block_scale(self) -> Tensor:
        """(λ_min + λ_max)/2 of each coordinate's block, ``[trials, size]``: one over the block's best learning rate."""
        extremes = [torch.linalg.eigvalsh(block)[:, [0, -1]].mean(1, keepdim=True) for block in self.blocks()]
        sizes = torch.tensor(self.sizes)
        return torch.cat(extremes, dim=1).repeat_interleave(sizes, dim=1)


def draw_quadratics(blocks: Blocks, trials: int, generator: Generator, *, dense: bool = False) -> Quadratics:
    """Quadratics with a random rotation of each block, or with ``dense`` of everything, and a standard normal start."""
    blocks = merged(blocks) if dense else blocks
    sizes = tuple(map(len, blocks))
    hessian = rotated_blocks(blocks, trials, generator)
    start = torch.randn(trials, sum(sizes), dtype=torch.float64, generator=generator)
    return Quadratics(hessian, start, sizes)


def condition_numbers(matrices: Tensor) -> Tensor:
    """λ_max/λ_min of positive definite matrices ``[trials, n, n]``, as ``[trials]``."""
    eigenvalues = torch.linalg.eigvalsh(matrices)
    return eigenvalues[:, -1] / eigenvalues[:, 0]


def eigenvalues_of_nodes(rows: Iterable[Mapping[str, Any]], count: int) -> dict[str, list[float]]:
    """Eigenvalues that stand for each block's measured spectrum.

    They are nodes of the block's first probe, evenly spread in order and with both ends: the range of the spectrum, not
    its density, by which nearly all eigenvalues of a network would be almost zero.

    Args:
        rows: of a nodes.csv, with the columns ``block``, ``probe`` and ``node``.
        count: eigenvalues per block; fewer where there are fewer nodes.
    """
    nodes: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["probe"] == 0:
            nodes[row["block"]].append(row["node"])
    chosen = {}
    for block, values in nodes.items():
        places = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
        chosen[block] = np.sort(values)[places].tolist()
    return chosen


def conditioned(blocks: Blocks, condition_number: float) -> list[list[float]]:
    """The eigenvalues shifted and scaled together, so that the smallest is 1 and the largest the condition number.

    Raises:
        ValueError: they are all the same.
    """
    smallest, largest = min(map(min, blocks)), max(map(max, blocks))
    if smallest == largest:
        raise ValueError("a matrix with one eigenvalue has condition number 1 under every shift and scale")
    scale = (condition_number - 1) / (largest - smallest)
    return [[1 + scale * (value - smallest) for value in block] for block in blocks]


LARGEST = 2**40
"""Iterations beyond which no answer is sought; a double still counts them exactly."""


def preconditioned_iterations(quadratics: Quadratics, scale: Tensor, tolerance: float, lr_fractions: Tensor) -> Tensor:
    """Exact iterations of w ← w − lr · g/scale, at fractions of each trial's lr = 2/(μ_min + μ_max).

    With the eigenpairs (μ, v) of D^(−1/2) H D^(−1/2), D = diag(scale), the loss after k iterations is
    ½ Σ μ (1 − lr·μ)^2k (v·D^(1/2)w₀)². At fractions up to 1 it falls with k, which is found by bisection.

    Args:
        quadratics: the problems.
        scale: D, ``[trials, size]``, above 0; all 1 is gradient descent.
        tolerance: of the loss, relative to the first.
        lr_fractions: ``[settings]``; above 1 the iterations diverge, and mostly never reach the tolerance.

    Returns:
        ``[settings, trials]``; infinite where the tolerance is not reached.
    """
    root = scale.sqrt()
    values, vectors = torch.linalg.eigh(quadratics.hessian / (root.unsqueeze(1) * root.unsqueeze(2)))
    first = values * torch.einsum("tji,tj->ti", vectors, root * quadratics.start).square()
    target = tolerance * first.sum(1)
    lr = lr_fractions.view(-1, 1, 1) * 2 / (values[:, :1] + values[:, -1:])
    log_factor = 2 * (1 - lr * values).abs().log()
    low = torch.zeros(log_factor.shape[:2], dtype=torch.float64)
    high = torch.full_like(low, LARGEST)
    while bool((high - low > 1).any()):
        middle = torch.floor((low + high) / 2)
        reached = (first * (log_factor * middle.unsqueeze(-1)).exp()).sum(-1) <= target
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    return high.where(high < LARGEST, torch.inf)


def simulated_iterations(
    quadratics: Quadratics, rule: Rule, lr: Tensor, clip: Tensor, tolerance: float, most: int
) -> Tensor:
    """Iterations of a rule on every quadratic with every setting, by running them all.

    It ends early once the best setting's median is known and twice as many iterations have passed.

    Args:
        quadratics: the problems, ``trials`` of them.
        rule: takes a step of all rows at once, a fresh one.
        lr: ``[settings]``.
        clip: ``[settings]``; infinite where the rule does not clip.
        tolerance: of the loss, relative to the first.
        most: iterations after which to give up.

    Returns:
        ``[settings, trials]``; infinite where the tolerance was not reached.
    """
    w = quadratics.start.repeat(len(lr), 1, 1)
    lr, clip = lr.view(-1, 1, 1), clip.view(-1, 1, 1)
    gradient = quadratics.gradient(w)
    needed = torch.full(w.shape[:2], torch.inf, dtype=torch.float64)
    target = tolerance * (w * gradient).sum(-1)
    for iteration in range(1, most + 1):
        rule(w, gradient, lr, clip)
        gradient = quadratics.gradient(w)
        reached = ((w * gradient).sum(-1) <= target) & needed.isinf()
        needed[reached] = iteration
        if iteration % 50 == 0 and iteration >= 2 * float(needed.median(1).values.min()):
            break
    return needed
