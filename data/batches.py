"""Which examples each step takes, and fetching them: both a function of the seed and the step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError
from ..seeds import derive_seed
from .base import Batch, Examples, Key


class BatchOrder:
    """The keys of each step: every epoch goes through the examples in an order of its own.

    An incomplete batch at an epoch's end is dropped.

    Args:
        length: number of examples.
        batch_size: examples per step, or ``full`` for all of them.
        seed: the experiment's seed.
        start_step: the first step to take; the keys of a step do not depend on it.

    Attributes:
        batch_size: examples per step.
        steps_per_epoch: batches per epoch.
        start_step: the first step to take.

    Raises:
        UserError: there are fewer examples than one batch takes.
    """

    def __init__(self, length: int, batch_size: int | Literal["full"], seed: int, start_step: int = 0) -> None:
        self.batch_size = length if batch_size == "full" else batch_size
        if not 0 < self.batch_size <= length:
            raise UserError(f"training.batch_size: {batch_size} examples do not fit into the {length} to train on")
        self.steps_per_epoch = length // self.batch_size
        self._length = length
        self._seed = seed
        self.start_step = start_step
        self._permuted_epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def keys(self, step: int) -> list[Key]:
        """The keys of one step, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._permuted_epoch:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, "order", epoch))
            self._permutation = torch.randperm(self._length, generator=generator)
            self._permuted_epoch = epoch
        start = place * self.batch_size
        return [(epoch, index) for index in self._permutation[start : start + self.batch_size].tolist()]


def training_batches(
    examples: Examples,
    order: BatchOrder,
    stop_step: int,
    *,
    micro_batch_size: int | None = None,
    workers: int = 0,
    share: slice = slice(None),
) -> Iterator[list[Batch]]:
    """The micro-batches of each step, from ``order.start_step`` up to and without ``stop_step``.

    Args:
        examples: what to fetch from.
        order: which examples each step takes.
        stop_step: where to end.
        micro_batch_size: most examples in one micro-batch; the whole batch by default.
        workers: processes that fetch ahead; their number changes nothing that is fetched.
        share: which of a step's examples to fetch; all by default.
    """
    size = micro_batch_size or order.batch_size
    steps = range(order.start_step, stop_step)
    fetched = _fetch(examples, (part for step in steps for part in _cut(order.keys(step)[share], size)), workers)
    micro_batches = math.ceil(len(range(order.batch_size)[share]) / size)
    for _ in steps:
        yield list(islice(fetched, micro_batches))


def evaluation_batches(
    examples: Examples, batch_size: int, *, limit: int | None = None, workers: int = 0
) -> Iterator[Batch]:
    """All examples in order, as of epoch 0; the last batch may be smaller.

    Args:
        examples: what to fetch from.
        batch_size: most examples in one batch.
        limit: take no more than that many, the first ones.
        workers: processes that fetch ahead.
    """
    keys = [(0, index) for index in range(len(examples))][:limit]
    return _fetch(examples, _cut(keys, batch_size), workers)


class _ByKeys(Dataset[Batch]):
    """Examples as a DataLoader takes them: a list of keys goes in, a batch comes out."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def __getitem__(self, keys: list[Key]) -> Batch:
        return self._examples.batch(keys)


def _fetch(examples: Examples, keys: Iterable[list[Key]], workers: int) -> Iterator[Batch]:
    # A generator of its own: without one, every pass draws a number from the global stream, which is the dropout's.
    generator = torch.Generator()
    loader = DataLoader(_ByKeys(examples), batch_size=None, sampler=keys, num_workers=workers, generator=generator)
    try:
        yield from loader
    except UserError as error:
        # From a worker it comes with a traceback in its message, and the message itself in the last line.
        last_line = str(error).strip().splitlines()[-1]
        raise UserError(last_line.removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")) from error


def _cut(keys: Sequence[Key], size: int) -> Iterator[list[Key]]:
    for start in range(0, len(keys), size):
        yield list(keys[start : start + size])
