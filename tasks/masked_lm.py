"""Masked language modelling: which tokens are hidden, and what is shown instead (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ..data.base import Key, Text
from ..models.base import Head
from ..seeds import derive_seed
from .base import TaskSettings
from .cross_entropy import IGNORED, CrossEntropyTask, cut_sequences

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.tokenization import Tokenizer

SHOWN_AS_MASK = 0.8
SHOWN_AS_RANDOM = 0.1


class MaskedLM(TaskSettings):
    """Cross-entropy of hidden tokens; scored by perplexity and accuracy on them."""

    paper = "Devlin et al. 2019, BERT, section 3.1"
    kind = "text"

    name: Literal["masked_lm"] = "masked_lm"
    mask_probability: float = Field(default=0.15, gt=0, le=1)

    def bind(self, data: Text, seed: int) -> CrossEntropyTask:
        """The task over ``data``; masks of the training part come from ``seed``, those of the evaluation are fixed."""
        train = MaskedSequences(data.train, data.block_size, data.tokenizer, self.mask_probability, seed)
        evaluation = MaskedSequences(data.evaluation, data.block_size, data.tokenizer, self.mask_probability, seed=None)
        return CrossEntropyTask(Head("masked_lm", data.tokenizer.vocab_size), train, evaluation)


class MaskedSequences:
    """Sequences of tokens of which some are to be predicted.

    In each sequence the same number of tokens is chosen at random: ``probability`` times its length, rounded, and at
    least one. Of the chosen, 80 % are shown as the mask token, 10 % as a random token and 10 % unchanged. The
    tokenizer's special tokens are never chosen: a sequence that has hardly any others has fewer chosen.

    Args:
        tokens: int32 ``[tokens]``.
        block_size: length of an example; example i is made of the tokens from i·block_size on.
        tokenizer: of the ids.
        probability: the share of tokens that is chosen.
        seed: the experiment's seed; None gives each example one mask, the same in all epochs of all experiments, so
            that runs of different seeds are scored on the same tokens.

    Raises:
        ValueError: the tokenizer has no mask token.
    """

    def __init__(
        self, tokens: Tensor, block_size: int, tokenizer: Tokenizer, probability: float, seed: int | None
    ) -> None:
        import torch

        if tokenizer.mask_id is None:
            raise ValueError("data.tokenizer: masked_lm needs a tokenizer with a mask token")
        self._sequences = cut_sequences(tokens, block_size, step=block_size)
        self._mask_id = tokenizer.mask_id
        self._vocab_size = tokenizer.vocab_size
        self._special_ids = torch.tensor(sorted(tokenizer.special_ids))
        self._chosen = max(1, round(probability * block_size))
        self._seed = seed

    def __len__(self) -> int:
        return len(self._sequences)

    def batch(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """``input_ids``, int64 ``[len(keys), block_size]``, and ``positions`` and ``labels`` of the tokens to predict.

        Those are int64 ``[len(keys), chosen]``, in the order of the text; where a sequence has too few ordinary tokens,
        the label of a special one is ``IGNORED``.
        """
        import torch

        tokens = self._sequences[[index for _, index in keys]].long()
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
        """Three uniform numbers in [0, 1) per token, ``[3, block_size]``."""
        import torch

        epoch, index = key
        if self._seed is None:
            seed = derive_seed(0, "evaluation mask", index)
        else:
            seed = derive_seed(self._seed, "mask", epoch, index)
        return torch.rand(3, self._sequences.shape[1], generator=torch.Generator().manual_seed(seed))
