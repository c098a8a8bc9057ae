"""Hiding tokens for a masked language model (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.settings import Key
from ..seeds import derive_seed
from .blocks import cut
from .cross_entropy import IGNORED

if TYPE_CHECKING:
    from ..data.tokenizers import Tokenizer

SHOWN_AS_MASK = 0.8
SHOWN_AS_RANDOM = 0.1


class MaskedBlocks:
    """Blocks of tokens of which some are to be guessed.

    Each ordinary token is chosen with ``probability``; of the chosen, 80 % are shown as the mask token, 10 % as a
    random token and 10 % as they are. The tokenizer's special tokens are never chosen, and a block with an ordinary
    token has at least one chosen, so that every example has a loss.

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
        self._probability = probability
        self._seed = seed

    def __len__(self) -> int:
        return len(self._blocks)

    def batch(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """``input_ids`` and ``labels``, int64 ``[len(keys), block_size]``; ``IGNORED`` is the label of the unchosen."""
        tokens = self._blocks[torch.tensor([index for _, index in keys])].long()
        choice, showing, replacement = torch.stack([self._draw(key) for key in keys], dim=1)

        ordinary = torch.isin(tokens, self._special_ids, invert=True)
        choice = choice.where(ordinary, torch.inf)
        lowest = choice.amin(dim=1, keepdim=True)
        chosen = ordinary & ((choice < self._probability) | (choice == lowest))

        shown = tokens.masked_fill(chosen & (showing < SHOWN_AS_MASK), self._mask_id)
        random = chosen & (showing >= SHOWN_AS_MASK) & (showing < SHOWN_AS_MASK + SHOWN_AS_RANDOM)
        shown = torch.where(random, (replacement * self._vocab_size).long(), shown)
        return {"input_ids": shown, "labels": tokens.where(chosen, IGNORED)}

    def _draw(self, key: Key) -> Tensor:
        """Three uniform numbers in [0, 1) a token, ``[3, block_size]``."""
        epoch, index = key
        if self._seed is None:
            seed = derive_seed(0, "evaluation mask", index)
        else:
            seed = derive_seed(self._seed, "mask", epoch, index)
        return torch.rand(3, self._blocks.shape[1], generator=torch.Generator().manual_seed(seed))
