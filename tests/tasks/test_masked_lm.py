"""Which tokens a masked language model has to guess, and what it is shown instead."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor
from whyadam.data.base import Text
from whyadam.tasks import TASKS, TaskSettings
from whyadam.tasks.cross_entropy import IGNORED
from whyadam.tasks.masked_lm import MaskedSequences

MASK, SPECIAL = 4, frozenset(range(5))


@dataclass(frozen=True)
class LargeVocabulary:
    """So many tokens that a random one is hardly ever the hidden one."""

    vocab_size: int = 30_000
    mask_id: int | None = MASK
    special_ids: frozenset[int] = SPECIAL


def blocks(seed: int | None = 0, count: int = 400, probability: float = 0.15, block_size: int = 128) -> MaskedSequences:
    tokens = torch.randint(5, 30_000, (count * block_size,), generator=torch.Generator().manual_seed(7))
    return MaskedSequences(tokens.int(), block_size, LargeVocabulary(), probability, seed)  # type: ignore[arg-type]


def every(examples: MaskedSequences, epoch: int = 0) -> tuple[Tensor, Tensor]:
    """What is shown, and the labels at the places of their tokens."""
    batch = examples.batch([(epoch, index) for index in range(len(examples))])
    labels = torch.full_like(batch["input_ids"], IGNORED)
    return batch["input_ids"], labels.scatter(1, batch["positions"], batch["labels"])


def assert_share(successes: Tensor, share: float) -> None:
    """The share is in the binomial interval that a right program leaves once in ten thousand times."""
    result = binomtest(int(successes.sum()), successes.numel(), share)
    assert result.pvalue > 1e-4, result


def test_shares_of_the_paper() -> None:
    """15 % of 128 are chosen, in all places; of those 80 % shown as mask, 10 % as a random token, 10 % as they are."""
    shown, labels = every(blocks(count=4000))
    chosen = labels != IGNORED
    assert (chosen.sum(dim=1) == 19).all()
    for place in (0, 63, 127):
        assert_share(chosen[:, place], 19 / 128)
    assert_share(shown[chosen] == MASK, 0.8)
    assert_share(shown[chosen] == labels[chosen], 0.1)
    assert_share((shown[chosen] != labels[chosen]) & (shown[chosen] != MASK), 0.1)


def test_random_tokens_come_from_the_whole_vocabulary() -> None:
    shown, labels = every(blocks(count=1000, probability=1.0))
    random = shown[(shown != labels) & (shown != MASK)]
    assert_share(random < 15_000, 0.5)
    assert 0 <= random.min() < 50
    assert 29_950 < random.max() < 30_000


def test_labels_are_the_hidden_tokens_and_nothing_else() -> None:
    """Catches labels taken after the replacement, and tokens changed where none was chosen."""
    examples = blocks()
    shown, labels = every(examples)
    tokens = torch.randint(5, 30_000, (400 * 128,), generator=torch.Generator().manual_seed(7)).view(400, 128)
    chosen = labels != IGNORED
    assert torch.equal(labels[chosen], tokens[chosen])
    assert torch.equal(shown[~chosen], tokens[~chosen])


def test_special_tokens_are_never_chosen(text: Text) -> None:
    """The fixture's text has one special token in eight."""
    task = TASKS["masked_lm"].model_validate({"mask_probability": 1.0}).bind(text, seed=0)
    shown, labels = every(task.train)  # type: ignore[arg-type]
    tokens = text.train[: labels.numel()].view(labels.shape).long()
    special = torch.isin(tokens, torch.tensor(sorted(SPECIAL)))
    assert special.any()
    assert torch.equal(labels == IGNORED, special)
    assert torch.equal(shown[special], tokens[special])


def test_every_example_has_a_loss() -> None:
    """At 1 % most blocks of 8 would have nothing to guess."""
    _, labels = every(blocks(count=200, probability=0.01, block_size=8))
    assert (labels != IGNORED).any(dim=1).all()


def test_a_block_of_special_tokens_alone_is_left_alone() -> None:
    examples = MaskedSequences(torch.zeros(8, dtype=torch.int32), 8, LargeVocabulary(), 0.5, 0)  # type: ignore[arg-type]
    shown, labels = every(examples)
    assert (shown == 0).all()
    assert (labels == IGNORED).all()


def test_a_mask_does_not_depend_on_its_batch() -> None:
    """Micro-batches, workers and order must not change a number."""
    examples = blocks(count=20)
    whole = examples.batch([(3, index) for index in range(20)])
    for rows in ([5], [19, 0, 5], [7, 7]):
        part = examples.batch([(3, index) for index in rows])
        for name in whole:
            assert torch.equal(part[name], whole[name][rows])


def test_masks_differ_between_epochs_examples_and_seeds() -> None:
    labels = every(blocks(count=20))[1]
    assert not torch.equal(labels, every(blocks(count=20), epoch=1)[1])
    assert not torch.equal(labels, every(blocks(count=20, seed=1))[1])
    chosen = (labels != IGNORED).tolist()
    assert all(chosen[i] != chosen[i + 1] for i in range(19))


def test_evaluation_masks_are_the_same_for_all_seeds_and_epochs(text: Text) -> None:
    """Catches scores of two seeds that differ because they had other tokens to guess."""
    first, second = (TASKS["masked_lm"]().bind(text, seed=seed) for seed in (0, 1))
    batch = first.evaluation.batch([(0, index) for index in range(10)])
    for task, epoch in ((second, 0), (first, 5)):
        other = task.evaluation.batch([(epoch, index) for index in range(10)])
        assert all(torch.equal(batch[name], other[name]) for name in batch)
    other = second.train.batch([(0, index) for index in range(10)])
    assert not torch.equal(other["labels"], first.train.batch([(0, index) for index in range(10)])["labels"])


def test_evaluation_and_training_are_masked_independently() -> None:
    """The fixed masks must not be those of the experiment whose seed is 0."""
    fixed, trained = every(blocks(seed=None, count=20)), every(blocks(seed=0, count=20))
    assert not torch.equal(fixed[1], trained[1])


def test_drawing_a_mask_leaves_the_global_generator_alone() -> None:
    """Catches masks that shift dropout."""
    before = torch.get_rng_state()
    every(blocks(count=5))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_tokenizer_without_a_mask_token_is_refused(text: Text) -> None:
    vocabulary = replace(text.tokenizer, mask_id=None)
    with pytest.raises(ValueError, match=r"^data\.tokenizer: "):
        TASKS["masked_lm"]().bind(replace(text, tokenizer=vocabulary), seed=0)


@pytest.mark.parametrize("probability", [0, 1.5])
def test_a_share_that_is_none_is_refused(probability: float) -> None:
    settings: type[TaskSettings] = TASKS["masked_lm"]
    with pytest.raises(ValueError, match="mask_probability"):
        settings.model_validate({"mask_probability": probability})
