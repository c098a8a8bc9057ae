"""Which examples a noise measurement takes: from random streams of its own, so that training notices nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Literal

from ..data.batches import BatchOrder
from ..data.settings import Examples, Key
from ..errors import UserError
from ..seeds import derive_seed
from ..tasks.settings import Batch


@dataclass(frozen=True)
class Passes:
    """Batches, one a forward pass, each fetched when it is its turn."""

    examples: Examples
    keys: list[list[Key]]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.examples.batch, self.keys)


class NoiseDraw:
    """The batches of one measurement: random examples, each once before any comes twice.

    Args:
        examples: the training part.
        batch_size: examples of a mini-batch.
        micro_batch_size: most examples of one forward pass; those of a mini-batch by default.
        seed: of the measurement.

    Raises:
        UserError: there are fewer examples than a mini-batch takes.
    """

    def __init__(self, examples: Examples, batch_size: int, micro_batch_size: int | None, seed: int) -> None:
        if batch_size > len(examples):
            raise UserError(f"noise.batch_size: {batch_size} examples do not fit into the {len(examples)} to train on")
        self._examples = examples
        self._batch_size = batch_size
        self._pass_size = min(batch_size, micro_batch_size or batch_size)
        self._seed = seed

    def reference(self, batches: int | Literal["full"]) -> Passes:
        """The reference set: so many mini-batches, or the ``full`` training part.

        It is cut evenly: a small rest would have BatchNorm statistics like no other batch.
        """
        if batches == "full":
            return self._cut(self._order("reference", "full").keys(0), self._pass_size)
        order = self._order("reference", self._batch_size)
        return self._cut([key for number in range(batches) for key in order.keys(number)], self._pass_size)

    def mini_batches(self, count: int) -> Iterator[Passes]:
        """The mini-batches, each as the micro-batches that make it up."""
        order = self._order("batches", self._batch_size)
        for number in range(count):
            yield self._cut(order.keys(number), self._pass_size)

    def single_examples(self, count: int, chunk_size: int) -> Passes:
        """Single examples, at most ``chunk_size`` of them at once, and no more than one forward pass may have."""
        order = self._order("examples", 1)
        keys = [key for number in range(count) for key in order.keys(number)]
        return self._cut(keys, min(chunk_size, self._pass_size))

    def _order(self, axis: str, batch_size: int | Literal["full"]) -> BatchOrder:
        return BatchOrder(len(self._examples), batch_size, derive_seed(self._seed, axis))

    def _cut(self, keys: list[Key], size: int) -> Passes:
        """As few passes as possible of at most ``size`` examples, their sizes differing by at most 1."""
        parts = ceil(len(keys) / size)
        ends = [len(keys) * part // parts for part in range(parts + 1)]
        return Passes(self._examples, [keys[start:end] for start, end in pairwise(ends)])
