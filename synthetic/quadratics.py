"""Quadratics L(w) = ½ wᵀHw with given eigenvalues, block by block or all mixed; many at once, each with its own H."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from ..data.rotated_blocks import Blocks, merged, rotated_blocks, spans
from ..errors import UserError

HETEROGENEOUS: Blocks = ((1, 2, 3), (99, 100, 101), (4998, 4999, 5000))
HOMOGENEOUS: Blocks = ((1, 99, 4998), (2, 100, 4999), (3, 101, 5000))
"""The same nine eigenvalues, apart and mixed. Source: Zhang et al., "Why Transformers Need Adam: A Hessian
Perspective", NeurIPS 2024, arXiv:2402.16788."""


@dataclass(frozen=True)
class Quadratics:
    """One quadratic a trial, all with the same eigenvalues.

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
    """Quadratics with a random rotation of each block, or of everything, and a standard normal start.

    Args:
        blocks: eigenvalues of each block.
        trials: how many.
        generator: of the rotations and the starts.
        dense: all eigenvalues in one block.
    """
    blocks = merged(blocks) if dense else blocks
    sizes = tuple(map(len, blocks))
    hessian = rotated_blocks(blocks, trials, generator)
    start = torch.randn(trials, sum(sizes), dtype=torch.float64, generator=generator)
    return Quadratics(hessian, start, sizes)


def condition_numbers(matrices: Tensor) -> Tensor:
    """λ_max/λ_min of positive definite matrices ``[trials, n, n]``, as ``[trials]``."""
    eigenvalues = torch.linalg.eigvalsh(matrices)
    return eigenvalues[:, -1] / eigenvalues[:, 0]


def eigenvalues_of_nodes(path: Path, count: int) -> dict[str, list[float]]:
    """Eigenvalues that stand for each block's measured spectrum.

    They are nodes of the block's first probe, evenly spread in order and with both ends: the range of the spectrum, not
    its density, by which nearly all eigenvalues of a network would be almost zero.

    Args:
        path: a nodes.csv with the columns ``block,size,probe,node,weight``.
        count: eigenvalues a block; fewer where there are fewer nodes.

    Raises:
        UserError: the file cannot be read, or a column is missing.
    """
    nodes: dict[str, list[float]] = defaultdict(list)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if int(row["probe"]) == 0:
                    nodes[row["block"]].append(float(row["node"]))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: should be a table with columns block, probe and node: {error!r}") from None
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
