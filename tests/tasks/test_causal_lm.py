"""Blocks of running text and the token that follows each of theirs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from whyadam.data.base import Text
from whyadam.tasks import TASKS
from whyadam.tasks.causal_lm import NextTokenSequences


def test_labels_are_the_tokens_one_ahead() -> None:
    """Catches blocks that overlap, skip a token, or label a token with itself."""
    blocks = NextTokenSequences(torch.arange(11, dtype=torch.int32), block_size=5)
    batch = blocks.batch([(0, 1), (7, 0)])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [0, 1, 2, 3, 4]]
    assert batch["labels"].tolist() == [[6, 7, 8, 9, 10], [1, 2, 3, 4, 5]]
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.int64


@pytest.mark.parametrize(("tokens", "examples"), [(6, 1), (10, 1), (11, 2), (15, 2), (16, 3)])
def test_the_last_block_needs_a_token_behind_it(tokens: int, examples: int) -> None:
    """Catches a last example without a label for its last token."""
    assert len(NextTokenSequences(torch.arange(tokens), block_size=5)) == examples


def test_every_token_but_the_first_is_predicted_once(text: Text) -> None:
    task = TASKS["causal_lm"]().bind(text, seed=0)
    batch = task.train.batch([(0, index) for index in range(len(task.train))])
    predicted = batch["labels"].flatten()
    assert torch.equal(predicted, text.train[1 : 1 + len(predicted)].long())
    assert len(text.train) - 1 - len(predicted) < text.block_size


def test_text_without_a_single_block_is_refused(text: Text) -> None:
    with pytest.raises(ValueError, match=r"^data\.block_size: .*16 tokens, one example needs 17$"):
        TASKS["causal_lm"]().bind(replace(text, evaluation=text.evaluation[:16]), seed=0)


def test_batches_can_be_changed_without_changing_the_text() -> None:
    """Catches a batch that is a view of the text."""
    tokens = torch.arange(11, dtype=torch.int64)
    NextTokenSequences(tokens, block_size=5).batch([(0, 0), (0, 1)])["input_ids"].zero_()
    assert torch.equal(tokens, torch.arange(11))
