"""Hiding tokens for a masked language model (Devlin et al. 2019, section 3.1).

Running text cut into blocks of equal length, one block an example.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.base import Key
from ..seeds import derive_seed
from .cross_entropy import IGNORED

if TYPE_CHECKING:
    from ..data.tokenization import Tokenizer


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


SHOWN_AS_MASK = 0.8
SHOWN_AS_RANDOM = 0.1


class MaskedBlocks:
    """Blocks of tokens of which some are to be guessed.

    In each block the same number of tokens is chosen at random, ``probability`` times its length, rounded, and at least
    one; of the chosen, 80 % are shown as the mask token, 10 % as a random token and 10 % as they are. The tokenizer's
    special tokens are never chosen: a block that has hardly any others has fewer chosen.

    Args:
        tokens: int32 ``[tokens]``.
        block_size: length of an example; example i is made of the tokens from i·block_size on.
        tokenizer: what made the ids.
        probability: the share of tokens that is chosen.
        seed: the experiment's seed; None gives each example one mask, the same in all epochs of all experiments, so
            that runs of different seeds are scored on the same guesses.

    Raises:
        ValueError: the tokenizer has no mask token.
    """

    def __init__(
        self, tokens: Tensor, block_size: int, tokenizer: Tokenizer, probability: float, seed: int | None
    ) -> None:
        if tokenizer.mask_id is None:
            raise ValueError("data.tokenizer: masked_lm needs a tokenizer with a mask token")
        self._blocks = cut(tokens, block_size, step=block_size)
        self._mask_id = tokenizer.mask_id
        self._vocab_size = tokenizer.vocab_size
        self._special_ids = torch.tensor(sorted(tokenizer.special_ids))
        self._chosen = max(1, round(probability * block_size))
        self._seed = seed

    def __len__(self) -> int:
        return len(self._blocks)

    def batch(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """``input_ids``, int64 ``[len(keys), block_size]``, and ``positions`` and ``labels`` of the tokens to guess.

        Those are int64 ``[len(keys), chosen]``, in the order of the text; where a block has too few ordinary tokens,
        the label of a special one is ``IGNORED``.
        """
        tokens = self._blocks[torch.tensor([index for _, index in keys])].long()
        choice, showing, replacement = torch.stack([self._draw(key) for key in keys], dim=1)

        special = torch.isin(tokens, self._special_ids)
        positions = choice.masked_fill(special, torch.inf).topk(self._chosen, largest=False).indices.sort().values
        special, showing, replacement, hidden = (
            values.gather(1, positions) for values in (special, showing, replacement, tokens)
        )

        shown = torch.where(showing < SHOWN_AS_MASK + SHOWN_AS_RANDOM, (replacement * self._vocab_size).long(), hidden)
        shown = shown.masked_fill(showing < SHOWN_AS_MASK, self._mask_id).where(~special, hidden)
        return {
            "input_ids": tokens.scatter(1, positions, shown),
            "positions": positions,
            "labels": hidden.masked_fill(special, IGNORED),
        }

    def _draw(self, key: Key) -> Tensor:
        """Three uniform numbers in [0, 1) a token, ``[3, block_size]``."""
        epoch, index = key
        if self._seed is None:
            seed = derive_seed(0, "evaluation mask", index)
        else:
            seed = derive_seed(self._seed, "mask", epoch, index)
        return torch.rand(3, self._blocks.shape[1], generator=torch.Generator().manual_seed(seed))
