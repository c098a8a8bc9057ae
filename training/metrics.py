"""metrics.csv: one row per logged step or evaluation, flushed as the run goes and cut when it resumes."""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from itertools import takewhile
from pathlib import Path
from typing import Self

from ..csv_files import write_csv


@dataclass(frozen=True, kw_only=True)
class MetricsRow:
    """One row of metrics.csv; None is written as an empty field.

    Attributes:
        step: optimizer steps taken.
        epoch: passes over the training part so far.
        examples: training examples seen so far.
        tokens: training tokens seen so far, without padding; None for images.
        split: ``train`` or ``eval``.
        loss: in nats; in a train row the mean over the steps since the previous one.
        perplexity: exp(loss), for language models.
        accuracy: share in [0, 1].
        exact_match: share in [0, 1].
        f1: share in [0, 1].
        lr: learning rate of the step.
        grad_norm: Euclidean norm of the step's gradient, before clipping.
        update_norm: Euclidean norm of the change that the step made to the parameters.
        clip_fraction: share of the step that was clipped, for rules that clip.
        seconds: training time so far, without evaluation and measurement.
    """

    step: int
    epoch: float
    examples: int
    tokens: int | None = None
    split: str
    loss: float
    perplexity: float | None = None
    accuracy: float | None = None
    exact_match: float | None = None
    f1: float | None = None
    lr: float | None = None
    grad_norm: float | None = None
    update_norm: float | None = None
    clip_fraction: float | None = None
    seconds: float


COLUMNS = tuple(field.name for field in fields(MetricsRow))


class MetricsFile:
    """Appends rows to a metrics.csv.

    Args:
        path: the file; created if it is missing.
        keep_until: rows of later steps are removed, and everything from a damaged line on; None removes all rows.
    """

    def __init__(self, path: Path, keep_until: int | None) -> None:
        kept = [] if keep_until is None else rows_until(path, keep_until)
        write_csv(path, kept, COLUMNS)
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._kept = kept

    @property
    def last_seconds(self) -> float:
        """Training time of the last row that was kept."""
        return float(self._kept[-1]["seconds"]) if self._kept else 0.0

    def earlier_losses(self, split: str) -> list[float]:
        """Losses of the rows that were kept."""
        return [float(row["loss"]) for row in self._kept if row["split"] == split]

    def had(self, step: int, split: str) -> bool:
        """Whether a row that was kept is of this step and split."""
        return any(int(row["step"]) == step and row["split"] == split for row in self._kept)

    def append(self, row: MetricsRow) -> None:
        """Write one row and flush it."""
        self._writer.writerow([_as_text(getattr(row, column)) for column in COLUMNS])
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The complete rows of a metrics.csv, as text by column."""
    with path.open(newline="", encoding="utf-8") as file:
        complete_lines = [line for line in file if line.endswith("\n")]
    return list(csv.DictReader(complete_lines))


def rows_until(path: Path, step: int) -> list[dict[str, str]]:
    """The rows up to a step or to the first damaged one; none where the file cannot be read."""
    try:
        rows = read_metrics(path)
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    return [row for row in takewhile(_is_complete, rows) if int(row["step"]) <= step]


def _is_complete(row: dict[str, str]) -> bool:
    return tuple(row) == COLUMNS and None not in row.values() and row["step"].isdecimal()


def _as_text(value: float | int | str | None) -> str:
    # Nine digits restore every float32 exactly.
    return "" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)
