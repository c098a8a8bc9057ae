"""Next-token prediction on running text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..data.base import Key, Text
from ..models.base import Head
from .base import TaskSettings
from .cross_entropy import CrossEntropyTask, cut_sequences

if TYPE_CHECKING:
    from torch import Tensor


class CausalLM(TaskSettings):
    """Cross-entropy of every next token; scored by perplexity and accuracy."""

    paper = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners"
    kind = "text"

    name: Literal["causal_lm"] = "causal_lm"

    def bind(self, data: Text, seed: int) -> CrossEntropyTask:
        """The task over ``data``; nothing in it is drawn."""
        train, evaluation = (NextTokenSequences(tokens, data.block_size) for tokens in (data.train, data.evaluation))
        return CrossEntropyTask(Head("causal_lm", data.tokenizer.vocab_size), train, evaluation)


class NextTokenSequences:
    """Sequences of tokens, each token labelled with the next one.

    Args:
        tokens: int32 ``[tokens]``.
        block_size: length of an example; example i is made of the tokens from i·block_size on.
    """

    def __init__(self, tokens: Tensor, block_size: int) -> None:
        self._sequences = cut_sequences(tokens, block_size + 1, step=block_size)

    def __len__(self) -> int:
        return len(self._sequences)

    def batch(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """``input_ids`` and ``labels``, both int64 ``[len(keys), block_size]``; ``labels`` are one token ahead."""
        sequences = self._sequences[[index for _, index in keys]].long()
        return {"input_ids": sequences[:, :-1], "labels": sequences[:, 1:]}
