"""The order of examples: a function of seed and step alone, whatever fetches them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from torch import Tensor
from whyadam.data.base import Key
from whyadam.data.batches import BatchOrder, evaluation_batches, training_batches
from whyadam.data.images import InMemoryImages, Preparation
from whyadam.errors import UserError


class Keys:
    """Examples that are their own keys."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def batch(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        return {"keys": torch.tensor(keys)}


def taken(length: int, batch_size: int | Literal["full"], seed: int, start: int, stop: int) -> list[list[list[int]]]:
    order = BatchOrder(length, batch_size, seed, start_step=start)
    batches = training_batches(Keys(length), order, stop)
    return [[key for part in parts for key in part["keys"].tolist()] for parts in batches]


def test_every_epoch_goes_through_the_examples_in_an_order_of_its_own() -> None:
    steps = taken(12, 4, seed=0, start=0, stop=9)
    orders = []
    for epoch in range(3):
        keys = [key for step in steps[3 * epoch : 3 * epoch + 3] for key in step]
        assert {number for number, _ in keys} == {epoch}
        orders.append(tuple(index for _, index in keys))
        assert sorted(orders[-1]) == list(range(12))
    assert len(set(orders)) == 3
    assert tuple(range(12)) not in orders


def test_a_last_batch_that_is_not_full_is_left_out() -> None:
    order = BatchOrder(11, 4, seed=0)
    assert order.steps_per_epoch == 2
    steps = taken(11, 4, seed=0, start=0, stop=4)
    assert [len(step) for step in steps] == [4, 4, 4, 4]
    assert [step[0][0] for step in steps] == [0, 0, 1, 1]
    assert len({index for step in steps[:2] for _, index in step}) == 8


@pytest.mark.parametrize("start", [1, 2, 3, 7])
def test_a_resumed_order_goes_on_where_the_first_was_cut(start: int) -> None:
    assert taken(11, 3, seed=4, start=start, stop=10) == taken(11, 3, seed=4, start=0, stop=10)[start:]


def test_any_step_is_known_without_those_before_it() -> None:
    steps = taken(11, 3, seed=4, start=0, stop=10)
    order = BatchOrder(11, 3, seed=4)
    for step in (9, 0, 5, 4, 9):
        assert [list(key) for key in order.keys(step)] == steps[step]


def test_seeds_differ() -> None:
    assert taken(50, 10, seed=0, start=0, stop=5) != taken(50, 10, seed=1, start=0, stop=5)


def test_a_full_batch_is_the_whole_set_in_every_step() -> None:
    for number, step in enumerate(taken(7, "full", seed=0, start=0, stop=3)):
        assert sorted(step) == [[number, index] for index in range(7)]


@pytest.mark.parametrize("micro_batch_size", [1, 3, 4, 10, None])
def test_micro_batches_are_the_batch_cut_up(micro_batch_size: int | None) -> None:
    whole = taken(30, 10, seed=0, start=2, stop=5)
    order = BatchOrder(30, 10, seed=0, start_step=2)
    steps = list(training_batches(Keys(30), order, 5, micro_batch_size=micro_batch_size))
    for expected, parts in zip(whole, steps, strict=True):
        assert torch.cat([part["keys"] for part in parts]).tolist() == expected
        assert all(len(part["keys"]) == (micro_batch_size or 10) for part in parts[:-1])


def test_shares_of_unequal_size_are_the_batch_dealt_out() -> None:
    """Catches examples that two processes take, or none: of ten, three of them take four, three and three."""
    shares = []
    for rank in range(3):
        order = BatchOrder(30, 10, seed=0, start_step=2)
        steps = training_batches(Keys(30), order, 5, micro_batch_size=2, share=slice(rank, None, 3))
        shares.append([[tuple(key) for part in parts for key in part["keys"].tolist()] for parts in steps])
    for expected, parts in zip(taken(30, 10, seed=0, start=2, stop=5), zip(*shares, strict=True), strict=True):
        assert [len(part) for part in parts] == [4, 3, 3]
        assert sorted(key for part in parts for key in part) == sorted(map(tuple, expected))


@pytest.mark.parametrize(("length", "batch_size"), [(5, 6), (0, 1), (0, "full")])
def test_a_set_smaller_than_a_batch_is_one_line(length: int, batch_size: int | Literal["full"]) -> None:
    with pytest.raises(UserError, match=rf"^training.batch_size: {batch_size} .* {length} "):
        BatchOrder(length, batch_size, seed=0)


def test_workers_change_no_number() -> None:
    pixels = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    preparation = Preparation(16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), "resized_crop", seed=0)
    examples = InMemoryImages(pixels, torch.arange(40), preparation)
    fetched = []
    for workers in (0, 2):
        order = BatchOrder(40, 12, seed=0, start_step=1)
        steps = list(training_batches(examples, order, 5, micro_batch_size=5, workers=workers))
        steps.append(list(evaluation_batches(examples, 16, workers=workers)))
        fetched.append([part for parts in steps for part in parts])
    assert len(fetched[0]) == len(fetched[1]) == 4 * 3 + 3
    for first, second in zip(*fetched, strict=True):
        assert torch.equal(first["images"], second["images"])
        assert torch.equal(first["labels"], second["labels"])


@pytest.mark.parametrize("workers", [0, 1])
def test_fetching_leaves_the_global_stream_alone(workers: int) -> None:
    """A loader draws a number from it for every pass, which would change the dropout after each evaluation."""
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(training_batches(Keys(8), BatchOrder(8, 2, seed=0), 6, workers=workers))
    list(evaluation_batches(Keys(8), 2, workers=workers))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(("limit", "expected"), [(None, [4, 4, 2]), (5, [4, 1]), (100, [4, 4, 2]), (4, [4])])
def test_evaluation_takes_all_examples_or_the_first_in_order(limit: int | None, expected: list[int]) -> None:
    batches = [batch["keys"] for batch in evaluation_batches(Keys(10), 4, limit=limit)]
    assert [len(batch) for batch in batches] == expected
    assert torch.cat(batches).tolist() == [[0, index] for index in range(sum(expected))]
