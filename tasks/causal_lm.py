"""Predicting the next token of running text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..data.base import Text
from ..models.base import Head
from .base import TaskSettings

if TYPE_CHECKING:
    from .base import Task


class CausalLM(TaskSettings):
    """Cross-entropy of every next token; scored by perplexity and accuracy."""

    paper = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners"
    kind = "text"

    name: Literal["causal_lm"] = "causal_lm"

    def bind(self, data: Text, seed: int) -> Task:
        """The task over ``data``; nothing in it is drawn."""
        from .cross_entropy import CrossEntropyTask
        from .masking import NextTokenBlocks

        train, evaluation = (NextTokenBlocks(tokens, data.block_size) for tokens in (data.train, data.evaluation))
        return CrossEntropyTask(Head("causal_lm", data.tokenizer.vocab_size), train, evaluation)
