"""Which examples a measurement takes."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
from whyadam.data.batches import BatchOrder
from whyadam.errors import UserError
from whyadam.noise.measure import NoiseDraw, Passes


def indices(passes: Passes) -> list[int]:
    return [index for keys in passes.keys for _, index in keys]


def test_the_full_reference_is_every_example_once_in_even_passes(least_squares: Any) -> None:
    """Catches a last pass of one example, whose BatchNorm would fail, and examples in the order of their classes."""
    passes = NoiseDraw(least_squares, batch_size=59, micro_batch_size=None, seed=0).reference("full")
    assert [len(keys) for keys in passes.keys] == [30, 30]
    assert sorted(indices(passes)) == list(range(60))
    assert indices(passes) != sorted(indices(passes))


def test_a_reference_of_some_batches(least_squares: Any) -> None:
    passes = NoiseDraw(least_squares, batch_size=10, micro_batch_size=None, seed=0).reference(3)
    assert [len(keys) for keys in passes.keys] == [10, 10, 10]
    assert len(set(indices(passes))) == 30


@pytest.mark.parametrize("batches", [6, 7, 20])
def test_a_reference_takes_no_example_twice(least_squares: Any, batches: int) -> None:
    """Batches that fill the training part are all of it."""
    passes = NoiseDraw(least_squares, batch_size=10, micro_batch_size=None, seed=0).reference(batches)
    assert sorted(indices(passes)) == list(range(60))


def test_mini_batches_are_whole_and_each_epoch_takes_each_example_once(least_squares: Any) -> None:
    draw = NoiseDraw(least_squares, batch_size=20, micro_batch_size=8, seed=0)
    batches = list(draw.mini_batches(6))
    assert [[len(keys) for keys in passes.keys] for passes in batches] == [[6, 7, 7]] * 6
    for epoch in (batches[:3], batches[3:]):
        assert sorted(index for passes in epoch for index in indices(passes)) == list(range(60))


def test_what_is_left_of_an_epoch_is_dropped(least_squares: Any) -> None:
    draw = NoiseDraw(least_squares, batch_size=25, micro_batch_size=None, seed=0)
    assert [len(indices(passes)) for passes in draw.mini_batches(5)] == [25] * 5


def test_single_examples_come_in_chunks(least_squares: Any) -> None:
    passes = NoiseDraw(least_squares, batch_size=20, micro_batch_size=None, seed=0).single_examples(45, chunk_size=20)
    assert [len(keys) for keys in passes.keys] == [15, 15, 15]
    assert len(set(indices(passes))) == 45


def test_a_chunk_is_no_larger_than_a_forward_pass(least_squares: Any) -> None:
    """Whose activations are known to fit into memory."""
    draw = NoiseDraw(least_squares, batch_size=20, micro_batch_size=6, seed=0)
    assert [len(keys) for keys in draw.single_examples(12, chunk_size=100).keys] == [6, 6]


def test_streams_differ_from_each_other_and_from_the_training_order(least_squares: Any) -> None:
    draw = NoiseDraw(least_squares, batch_size=20, micro_batch_size=None, seed=0)
    other = NoiseDraw(least_squares, batch_size=20, micro_batch_size=None, seed=1)
    again = NoiseDraw(least_squares, batch_size=20, micro_batch_size=None, seed=0)
    training = [index for _, index in BatchOrder(60, 20, seed=0).keys(0)]
    first = [indices(next(source.mini_batches(1))) for source in (draw, other)]
    streams = [*first, indices(draw.reference(1)), indices(draw.single_examples(20, 20)), training]
    assert len({tuple(stream) for stream in streams}) == 5
    assert [indices(p) for p in islice(again.mini_batches(2), 1)] == first[:1]


def test_a_batch_that_the_data_cannot_fill_is_refused(least_squares: Any) -> None:
    with pytest.raises(UserError, match=r"noise\.batch_size: 61"):
        NoiseDraw(least_squares, batch_size=61, micro_batch_size=None, seed=0)
