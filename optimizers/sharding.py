"""Parameters that torch.distributed keeps in shards, as ``fully_shard`` does: DTensors.

A rule works on the shard of its own process, as on any tensor. Only sums over all coordinates, such as a norm, need the
other processes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Layout = tuple[Any, tuple[Any, ...]]
"""The mesh of processes that a DTensor is spread over, and its placement along each dimension of the mesh."""


def layout(tensor: Tensor) -> Layout | None:
    """How a DTensor is spread; None for any other tensor."""
    # Not by its class, whose import takes half a second.
    mesh = getattr(tensor, "device_mesh", None)
    return None if mesh is None else (mesh, tuple(tensor.placements))  # type: ignore[attr-defined]


def shard(tensor: Tensor, spread: Layout | None) -> Tensor:
    """This process's part of a DTensor that is to be spread in that way, sharing its memory if it already is.

    Args:
        tensor: a DTensor, or any other tensor where ``spread`` is None.
        spread: the layout of the parameter that the tensor belongs to.
    """
    if spread is None:
        return tensor
    if layout(tensor) != spread:
        tensor = tensor.redistribute(*spread)  # type: ignore[attr-defined]
    local: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return local


def sum_over_shards(value: Tensor, spread: Layout | None) -> Tensor:
    """The sum of each process's value, where these come from shards and not from copies."""
    if spread is None:
        return value
    mesh, placements = spread
    total = value.clone()
    for dimension, placement in enumerate(placements):
        if not placement.is_replicate():
            torch.distributed.all_reduce(total, group=mesh.get_group(dimension))
    return total


def norm_over_shards(norm: Tensor, spread: Layout | None) -> Tensor:
    """The Euclidean norm of a DTensor, from the norms of its shards."""
    return norm if spread is None else sum_over_shards(norm.square(), spread).sqrt()
