"""CSV files: rows written completely or not at all, and read back to the last bit."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .files import replace_text

Row = dict[str, Any]
"""Numbers and text by column."""


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Write rows as CSV, completely or not at all; None is an empty field.

    Args:
        path: the file; its folder is made.
        rows: all with the same columns.
        columns: their order, and the heading of a file without rows; by default that of the first row.

    Raises:
        ValueError: a row has another column, or there are neither rows nor columns.
    """
    rows = list(rows)
    if columns is None and not rows:
        raise ValueError(f"{path}: needs at least one row, or the names of the columns")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_text(path, text.getvalue())


def read_csv(path: Path) -> list[Row]:
    """The rows of a CSV file; numbers, True and False are read as such, and an empty field is None."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{column: _value(text) for column, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False, "": None}.get(text, text)
