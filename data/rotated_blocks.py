"""Symmetric matrices with given eigenvalues, block by block, each block in a random rotation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Generator, Tensor

Blocks = Sequence[Sequence[float]]
"""The eigenvalues of each block."""


def rotated_blocks(blocks: Blocks, count: int, generator: Generator) -> Tensor:
    """Block-diagonal matrices ``[count, size, size]``, float64, that differ in the rotations of their blocks.

    Args:
        blocks: eigenvalues of each block.
        count: how many matrices.
        generator: of the rotations.
    """
    sizes = [len(eigenvalues) for eigenvalues in blocks]
    matrices = torch.zeros(count, sum(sizes), sum(sizes), dtype=torch.float64)
    for eigenvalues, span in zip(blocks, spans(sizes), strict=True):
        rotation = random_rotations(count, len(eigenvalues), generator)
        matrices[:, span, span] = rotation * torch.tensor(eigenvalues, dtype=torch.float64) @ rotation.mT
    return matrices


def random_rotations(count: int, size: int, generator: Generator) -> Tensor:
    """Uniformly distributed orthogonal matrices ``[count, size, size]``.

    Source: Mezzadri, "How to generate random matrices from the classical compact groups", Notices of the AMS 2007:
    the signs of R's diagonal make QR unique and Q uniform.
    """
    q, r = torch.linalg.qr(torch.randn(count, size, size, dtype=torch.float64, generator=generator))
    return q * r.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)


def merged(blocks: Blocks) -> Blocks:
    """One block with all the eigenvalues."""
    return [[value for block in blocks for value in block]]


def spans(sizes: Sequence[int]) -> list[slice]:
    """Where each block lies on the diagonal."""
    return [slice(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]
