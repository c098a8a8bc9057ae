"""Blocks: the groups of parameters whose own Hessians are measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Piece:
    """A parameter, or what lies between two indices of one of its dimensions.

    Attributes:
        parameter: its name in ``named_parameters``.
        dim: the dimension that is cut.
        start: first index.
        length: number of indices; None for the whole parameter.
    """

    parameter: str
    dim: int = 0
    start: int = 0
    length: int | None = None

    def of(self, tensor: Tensor) -> Tensor:
        """The piece of the parameter's value, or of anything with its shape; a view."""
        return tensor if self.length is None else tensor.narrow(self.dim, self.start, self.length)

    def put(self, piece: Tensor, tensor: Tensor) -> Tensor:
        """A copy of ``tensor`` with this piece of it replaced; differentiable in ``piece``."""
        if self.length is None:
            return piece
        return torch.slice_scatter(tensor, piece, self.dim, self.start, self.start + self.length)


@dataclass(frozen=True)
class Block:
    """Parameters, or pieces of them, that form one diagonal block of the Hessian.

    Attributes:
        name: what tables and pictures call it.
        pieces: what it is made of, in the order in which vectors hold it.
    """

    name: str
    pieces: tuple[Piece, ...]

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The block's entries ``[size]`` of one tensor a parameter: of a gradient, or of an optimizer's state."""
        return torch.cat([piece.of(tensors[piece.parameter]).flatten() for piece in self.pieces])

    def size(self, tensors: Mapping[str, Tensor]) -> int:
        """Number of entries, given one tensor a parameter."""
        return sum(piece.of(tensors[piece.parameter]).numel() for piece in self.pieces)
