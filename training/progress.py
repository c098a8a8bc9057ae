"""How far a run is: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Self

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Counts steps towards ``total`` on standard error."""

    def __init__(self, label: str, total: int, start: int = 0) -> None:
        self.label = label
        self.step = start
        self.total = total
        self.notes: dict[str, str] = {}
        self._bar = tqdm(desc=label, total=total, initial=start, unit="step", disable=None, leave=False)
        self._last_line = time.monotonic()

    def note(self, **values: float) -> None:
        """Show numbers beside the count."""
        self.notes |= {name: f"{value:.4g}" for name, value in values.items()}
        if not self._bar.disable:
            self._bar.set_postfix(self.notes)

    def advance(self) -> None:
        """One step more."""
        self.step += 1
        self._bar.update()
        if self._bar.disable and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            notes = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.notes.items())
            print(f"{self.label}: step {self.step}/{self.total}  {notes}", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
