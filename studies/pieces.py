"""Tables on disk, and the finished pieces of a study that need not be computed again."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""Numbers and text by column."""


class Pieces:
    """The pieces of a study: what is computed is written to ``pieces/<name>.csv`` and read back the next time.

    Args:
        folder: the study's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "pieces"

    def rows(self, name: str, compute: Callable[[], Sequence[Mapping[str, Any]]]) -> list[Row]:
        """The rows of one piece, from disk where they are there.

        Args:
            name: of the piece, a file name; it must tell apart everything that differs between pieces.
            compute: gives the rows; all have the same columns.
        """
        path = self._folder / f"{name}.csv"
        if not path.exists():
            write_table(path, compute())
        return read_table(path)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all; None is an empty field."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def read_table(path: Path) -> list[Row]:
    """The rows of a CSV file; what reads as a number is one, to the last bit, and an empty field is None."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{column: _value(text) for column, text in row.items()} for row in csv.DictReader(file)]


def without(rows: Sequence[Row], *columns: str) -> list[Row]:
    """The rows less some columns."""
    return [{column: value for column, value in row.items() if column not in columns} for row in rows]


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None
