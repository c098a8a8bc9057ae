"""Guessing hidden tokens of running text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ..data.base import Text
from ..models.base import Head
from .base import TaskSettings

if TYPE_CHECKING:
    from .base import Task


class MaskedLM(TaskSettings):
    """Cross-entropy of hidden tokens; scored by perplexity and accuracy on them."""

    paper = "Devlin et al. 2019, BERT, section 3.1"
    kind = "text"

    name: Literal["masked_lm"] = "masked_lm"
    mask_probability: float = Field(default=0.15, gt=0, le=1)

    def bind(self, data: Text, seed: int) -> Task:
        """The task over ``data``; masks of the training part come from ``seed``, those of the evaluation are fixed."""
        from .cross_entropy import CrossEntropyTask
        from .masking import MaskedBlocks

        train = MaskedBlocks(data.train, data.block_size, data.tokenizer, self.mask_probability, seed)
        evaluation = MaskedBlocks(data.evaluation, data.block_size, data.tokenizer, self.mask_probability, seed=None)
        return CrossEntropyTask(Head("masked_lm", data.tokenizer.vocab_size), train, evaluation)
