"""The Euclidean norm of many tensors together, over devices and over shards."""

from __future__ import annotations

import torch
from torch import Tensor

from .execution import Part, working_dtype
from .sharding import norm_over_shards


def norm_of_parts(parts: list[Part], tensors: list[list[Tensor]]) -> Tensor:
    """The Euclidean norm of all tensors together, over all shards.

    Args:
        parts: in shards.
        tensors: of each part, one a parameter; they are of its device and layout.

    Returns:
        0-dimensional, on the device of the first tensor, of at least single precision.
    """
    norms = []
    for part, of_part in zip(parts, tensors, strict=True):
        of_shards = torch.stack(torch._foreach_norm(of_part, 2, dtype=working_dtype(of_part[0])))
        norms.append(norm_over_shards(of_shards, part.layout))
    return combine_norms(norms)


def combine_norms(norms: list[Tensor]) -> Tensor:
    """One norm out of vectors of norms."""
    return torch.linalg.vector_norm(torch.cat([norm.to(norms[0].device) for norm in norms]))
