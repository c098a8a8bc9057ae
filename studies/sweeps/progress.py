"""Progress of a sweep: bars on a terminal, one line per run elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from os import SEEK_END
from pathlib import Path
from typing import Self

from tqdm import tqdm

from ...training.metrics import COLUMNS
from .outcomes import Outcome
from .plan import Trial

SECONDS_BETWEEN_READINGS = 1.0
TAIL = 4096
"""Bytes of a metrics.csv in which its last row stands."""


class SweepProgress:
    """Counts the runs of a sweep on standard error; on a terminal, the active runs have a line each below.

    Args:
        total: runs to come.
        out: folder of their run folders.
    """

    def __init__(self, total: int, out: Path) -> None:
        self._total = total
        self._out = out
        self._states: Counter[str] = Counter()
        self._bar = tqdm(desc="sweep", total=total, unit="run", disable=None, leave=False)
        self._lines: list[tqdm] = []
        self._last_reading = 0.0

    def record(self, outcome: Outcome) -> None:
        """Count a run that has ended."""
        self._states[outcome.state] += 1
        self._bar.set_postfix(self._states, refresh=False)
        self._bar.update()
        if self._bar.disable or outcome.state != "done":
            tqdm.write(f"[{self._states.total()}/{self._total}] {outcome.describe()}", file=sys.stderr)

    def show(self, running: Sequence[Trial]) -> None:
        """Show these active runs."""
        now = time.monotonic()
        if self._bar.disable or now - self._last_reading < SECONDS_BETWEEN_READINGS:
            return
        self._last_reading = now
        self._bar.refresh()
        while len(self._lines) < len(running):
            self._lines.append(tqdm(position=len(self._lines) + 1, bar_format="  {desc}", leave=False))
        for place, line in enumerate(self._lines):
            line.set_description_str(_describe(running[place], self._out) if place < len(running) else "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for line in reversed(self._lines):
            line.close()
        self._bar.close()


def _describe(trial: Trial, out: Path) -> str:
    row = _last_row(trial.folder(out).metrics)
    if row is None:
        return f"{trial.describe()}: beginning"
    steps = trial.experiment.training.steps
    step = row["step"] if steps is None else f"{row['step']}/{steps}"
    return f"{trial.describe()}: step {step}, {row['split']} loss {float(row['loss']):.4g}"


def _last_row(metrics: Path) -> dict[str, str] | None:
    """The last complete row of a metrics.csv that another process writes; None while there is none."""
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, file.seek(0, SEEK_END) - TAIL))
            lines = file.read().decode().rpartition("\n")[0].splitlines()
    except OSError:
        return None
    row = dict(zip(COLUMNS, lines[-1].split(","), strict=False)) if lines else {}
    return row if row.get("step", "").isdigit() and row.get("loss") else None
