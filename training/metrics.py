"""metrics.csv: one row per logged step or evaluation, flushed as the run goes, validated when it is read."""

from __future__ import annotations

import csv
import errno
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self, get_type_hints

from pydantic import FiniteFloat, NonNegativeInt, TypeAdapter, ValidationError

from ..errors import UserError, printable
from ..files import is_same_file, open_to_append, open_to_read, replacing


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
        clip_fraction: share of the coordinates that clipping scaled down, for rules that clip; the mean over the steps
            since the previous train row, as the loss is.
        seconds: training time so far, without evaluation and measurement.
    """

    step: NonNegativeInt
    epoch: FiniteFloat
    examples: NonNegativeInt
    tokens: NonNegativeInt | None = None
    split: Literal["train", "eval"]
    loss: FiniteFloat
    perplexity: float | None = None
    accuracy: float | None = None
    exact_match: float | None = None
    f1: float | None = None
    lr: float | None = None
    grad_norm: float | None = None
    update_norm: float | None = None
    clip_fraction: float | None = None
    seconds: FiniteFloat


COLUMNS = tuple(field.name for field in fields(MetricsRow))

Row = dict[str, str]
"""A row as text by column."""


class MetricsFile:
    """Appends rows to a metrics.csv.

    Args:
        path: the file; created if it is missing.
        keep_until: rows of later steps are removed, and everything from a damaged line on; None removes all rows.

    Attributes:
        rows: rows in the file.
        digest: of these rows, as ``digest_rows`` gives it.
    """

    def __init__(self, path: Path, keep_until: int | None) -> None:
        self._kept = [] if keep_until is None else rows_until(path, keep_until)
        self.rows = len(self._kept)
        self.digest = digest_rows(self._kept)
        self._known = {(int(row["step"]), row["split"]) for row in self._kept}
        self._path = path
        with replacing(path) as file:
            file.write(_line(COLUMNS))
            file.writelines(_line(row.values()) for row in self._kept)
        self._file = open_to_append(path)

    @property
    def last_seconds(self) -> float:
        """Training time of the last row that was kept."""
        return float(self._kept[-1]["seconds"]) if self._kept else 0.0

    def earlier_losses(self, split: str) -> list[float]:
        """Losses of the rows that were kept."""
        return [float(row["loss"]) for row in self._kept if row["split"] == split]

    def had(self, step: int, split: str) -> bool:
        """Whether a row that was kept is of this step and split."""
        return (step, split) in self._known

    def append(self, row: MetricsRow) -> None:
        """Write one row and flush it.

        Raises:
            OSError: it cannot be written, or somebody has removed or replaced the file.
        """
        if not is_same_file(self._file, self._path):
            raise OSError(errno.ENOENT, "was removed or replaced while the run was working", str(self._path))
        values = {column: _as_text(getattr(row, column)) for column in COLUMNS}
        self._file.write(_line(values.values()))
        self._file.flush()
        self.rows += 1
        self.digest = digest_rows([values], self.digest)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_metrics(path: Path) -> list[Row]:
    """The rows of a metrics.csv, each field checked; an incomplete last line is left out.

    Raises:
        UserError: the file cannot be read, or a line is damaged; one line that names it.
    """
    try:
        rows, damage = _read(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if damage is not None:
        raise UserError(f"{path}: {damage}")
    return rows


def rows_until(path: Path, step: float = math.inf) -> list[Row]:
    """The rows up to a step or to the first damaged line, with all columns; none where the file cannot be read."""
    try:
        rows, _ = _read(path)
    except OSError:
        return []
    return [{column: row.get(column, "") for column in COLUMNS} for row in rows if int(row["step"]) <= step]


def digest_rows(rows: Iterable[Row], digest: str = "") -> str:
    """32 hexadecimal digits that stand for all rows so far, without their wall-clock time.

    Args:
        rows: those that are added.
        digest: of the rows before them.
    """
    for row in rows:
        text = "\n".join([digest, *(row[column] for column in COLUMNS if column != "seconds")])
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return digest


def _read(path: Path) -> tuple[list[Row], str | None]:
    """The rows before the first damaged line, and what is wrong with that line."""
    rows: list[Row] = []
    with open_to_read(path) as file:
        lines = file.read().removeprefix(b"\xef\xbb\xbf").split(b"\n")[:-1]
    number, last = 1, (-1, False)
    try:
        columns = _header(lines)
        for number, line in enumerate(lines[1:], start=2):  # noqa: B007 - of the line that raises
            row = _row(columns, line)
            position = int(row["step"]), row["split"] == "eval"
            if position <= last:
                raise ValueError(f"the {row['split']} row of step {row['step']} is out of order")
            last = position
            rows.append(row)
    except (ValueError, csv.Error) as error:
        return rows, printable(f"line {number}: {error}")
    return rows, None


def _header(lines: Sequence[bytes]) -> list[str]:
    columns = _fields(lines[0]) if lines else []
    if len(set(columns)) < len(columns) or not {"step", "split", "loss"} <= set(columns):
        raise ValueError("should name the columns step, split, loss and others, each once")
    return columns


def _row(columns: Sequence[str], line: bytes) -> Row:
    values = _fields(line)
    if len(values) != len(columns):
        raise ValueError(f"has {len(values)} fields, the header has {len(columns)}")
    row = dict(zip(columns, values, strict=True))
    for column, check in _checks().items():
        if column in row:
            try:
                check.validate_python(row[column] or None)
            except ValidationError as error:
                raise ValueError(f"{column}: {error.errors()[0]['msg']}, got {row[column][:40]!r}") from None
    return row


def _fields(line: bytes) -> list[str]:
    return next(csv.reader([line.decode("utf-8").removesuffix("\r")], strict=True), [])


@cache
def _checks() -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(MetricsRow, include_extras=True)
    return {column: TypeAdapter(hints[column]) for column in COLUMNS}


def _line(values: Iterable[str]) -> bytes:
    return (",".join(values) + "\n").encode()


def _as_text(value: float | int | str | None) -> str:
    # Nine digits restore every float32 exactly.
    return "" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)
