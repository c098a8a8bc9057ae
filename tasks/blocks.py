"""Running text cut into blocks of equal length, one block an example."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..data.settings import Key


def cut(tokens: Tensor, length: int, step: int) -> Tensor:
    """A view of all full blocks of ``tokens``, ``[blocks, length]``; block i starts at token i·step.

    Raises:
        ValueError: the text is shorter than one block.
    """
    if len(tokens) < length:
        raise ValueError(f"data.block_size: a part of the text has {len(tokens)} tokens, one example needs {length}")
    return tokens.unfold(0, length, step)


class NextTokenBlocks:
    """Blocks of tokens, labelled with the token that follows each.

    Args:
        tokens: int32 ``[tokens]``.
        block_size: length of an example; example i is made of the tokens from i·block_size on.
    """

    def __init__(self, tokens: Tensor, block_size: int) -> None:
        self._blocks = cut(tokens, block_size + 1, step=block_size)

    def __len__(self) -> int:
        return len(self._blocks)

    def batch(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """``input_ids`` and ``labels``, both int64 ``[len(keys), block_size]``; ``labels`` are one token ahead."""
        blocks = self._blocks[torch.tensor([index for _, index in keys])].long()
        return {"input_ids": blocks[:, :-1], "labels": blocks[:, 1:]}
