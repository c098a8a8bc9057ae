"""Picking from the rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]
"""Numbers and text by column."""


def select(rows: Rows, **wanted: Any) -> list[Any]:
    """The rows whose columns have these values, in their order."""
    return [row for row in rows if all(row[column] == value for column, value in wanted.items())]


def different(rows: Rows, column: str) -> list[Any]:
    """The values of a column, each once, in order of appearance."""
    return list(dict.fromkeys(row[column] for row in rows))
