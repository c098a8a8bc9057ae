"""The finished pieces of a study, which need not be computed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..csv_tables import Row, read_table, write_table


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
