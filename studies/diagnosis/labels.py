"""How unequal in frequency the classes of a data set are, read off its batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Imbalance:
    """The classes of the labels that were seen.

    Attributes:
        labels: how many labels.
        classes: how many different ones; rare classes that were not seen count for nothing.
        relative_entropy: entropy of their frequencies over that of equal ones, ln(classes); 1 if all are equal.
        rarest_half: share of the classes that together have the rarer half of the labels; 0.5 if all are equal.
    """

    labels: int
    classes: int
    relative_entropy: float
    rarest_half: float


class LabelCounts:
    """Counts the labels of batches while they pass by."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches, counted."""
        for batch in batches:
            labels = find_labels(batch)
            if labels is not None:
                values, counts = labels[labels >= 0].unique(return_counts=True)
                self._counts.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
            yield batch

    def imbalance(self) -> Imbalance | None:
        """What was counted; None if there were fewer than two classes."""
        if len(self._counts) < 2:
            return None
        counts = np.sort(np.fromiter(self._counts.values(), dtype=np.float64))
        shares = counts / counts.sum()
        # A class on the boundary counts with the part of it that belongs to the rarer half.
        rarest = np.interp(0.5, [0.0, *np.cumsum(shares)], np.arange(len(shares) + 1))
        return Imbalance(
            labels=int(counts.sum()),
            classes=len(counts),
            relative_entropy=float(-(shares * np.log(shares)).sum() / np.log(len(shares))),
            rarest_half=float(rarest) / len(shares),
        )


def find_labels(batch: Any) -> Tensor | None:
    """The labels of a batch, as far as its form tells; negative ones stand for none.

    They are ``batch["labels"]`` or ``batch["label"]``, the last part of a tuple or list, or the batch itself, whose
    tokens are then the labels; None if that is no tensor of integers.
    """
    if isinstance(batch, Mapping):
        found = batch.get("labels", batch.get("label"))
    elif isinstance(batch, tuple | list) and batch:
        found = batch[-1]
    else:
        found = batch
    is_integer = isinstance(found, Tensor) and found.dtype in (torch.uint8, torch.int16, torch.int32, torch.int64)
    return found if is_integer else None
