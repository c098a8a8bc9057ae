"""Choosing blocks by name."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from ..errors import UserError
from ..names import nearest
from .blocks import Block, Piece
from .partitions import PARTITIONS, partition


def select_blocks(model: nn.Module, blocks: str | Sequence[str] | Sequence[Block]) -> list[Block]:
    """The blocks that a name of a partition, globs or a list of blocks stand for.

    Args:
        model: any module.
        blocks: what ``partition`` knows, or a glob or several for names of the default partition, or blocks.

    Raises:
        UserError: nothing has such a name.
    """
    if isinstance(blocks, str):
        if blocks in PARTITIONS:
            return partition(model, blocks)
        blocks = [blocks]
    if own := [block for block in blocks if isinstance(block, Block)]:
        return own
    return matching(partition(model), [str(glob) for glob in blocks])


def select_parameters(model: nn.Module, names: str | Sequence[str] | None) -> Block:
    """One block of all that the names or globs stand for: parameters, else blocks of the default partition.

    Args:
        model: any module.
        names: names or globs; all trained parameters by default.

    Raises:
        UserError: a glob fits nothing.
    """
    whole = partition(model, "full")[0]
    if names is None:
        return whole
    names = [names] if isinstance(names, str) else list(names)
    pieces: list[Piece] = []
    for glob in names:
        fitting = [piece for piece in whole.pieces if fnmatchcase(piece.parameter, glob)]
        pieces += fitting or [piece for block in matching(partition(model), [glob]) for piece in block.pieces]
    return Block(", ".join(names), tuple(dict.fromkeys(pieces)))


def matching(blocks: Sequence[Block], globs: Sequence[str]) -> list[Block]:
    """Those blocks whose name fits one of the globs (``*`` fits dots too), in their own order.

    Raises:
        UserError: a glob fits no block.
    """
    names = [block.name for block in blocks]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise UserError(f"hessian.blocks: {glob!r} fits no parameter; {nearest(glob, names)}")
    return [block for block in blocks if any(fnmatchcase(block.name, glob) for glob in globs)]
