"""Progress on standard error: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, Self, TypeVar

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 5.0

Item = TypeVar("Item")


class Track(Protocol):
    """A progress callback: yields the items and shows how many have been processed."""

    def __call__(self, label: str, items: Iterable[Item], total: int) -> Iterable[Item]:
        """The same items, ``total`` of them."""
        ...


class Progress:
    """Counts steps towards ``total`` on standard error."""

    def __init__(self, label: str, total: int, start: int = 0) -> None:
        self.label = label
        self.step = start
        self.total = total
        self.notes: dict[str, str] = {}
        self._bar = tqdm(desc=label, total=total, initial=start, unit="step", disable=None, leave=False)
        self._start = start
        self._began = self._last_line = time.monotonic()

    def note(self, **values: float) -> None:
        """Numbers to show beside the count."""
        self.notes |= {name: f"{value:.4g}" for name, value in values.items()}
        if not self._bar.disable:
            self._bar.set_postfix(self.notes)

    def advance(self) -> None:
        """Count one step."""
        self.step += 1
        self._bar.update()
        if self._bar.disable and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            notes = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.notes.items())
            left = tqdm.format_interval(self._seconds_left())
            print(f"{self.label}: {self.step}/{self.total}, {left} left  {notes}", file=sys.stderr, flush=True)

    def _seconds_left(self) -> float:
        """Estimated from the mean time per step so far."""
        spent = time.monotonic() - self._began
        return spent / (self.step - self._start) * (self.total - self.step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def track(label: str, items: Iterable[Item], total: int) -> Iterator[Item]:
    """The items, counted by a ``Progress``."""
    with Progress(label, total) as progress:
        for item in items:
            yield item
            progress.advance()


def untracked(label: str, items: Iterable[Item], total: int) -> Iterable[Item]:
    """The items, without progress."""
    return items
