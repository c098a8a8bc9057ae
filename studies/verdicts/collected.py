"""The summaries of finished studies, wherever they lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import UserError
from ...training.status import read_status
from .summary import SummaryRow, read_summary


def study_folders(path: Path) -> list[Path]:
    """The folders of studies at or below a folder, finished or not, in order of path.

    Raises:
        UserError: a status.json cannot be read.
    """
    statuses = [path / "status.json"] if (path / "status.json").exists() else sorted(path.glob("**/status.json"))
    return [status.parent for status in statuses if "study" in read_status(status)]


def newest_summaries(folders: Iterable[Path]) -> list[Path]:
    """The summary.csv of finished studies: of each study and scale the one that finished last."""
    newest: dict[tuple[str, str], Path] = {}
    for folder in sorted(folders, key=lambda folder: (folder / "status.json").stat().st_mtime):
        status = read_status(folder / "status.json")
        if status.get("state") == "done" and (folder / "summary.csv").exists():
            newest[status["study"], status.get("scale", "")] = folder / "summary.csv"
    return sorted(newest.values())


def read_summaries(paths: Sequence[Path]) -> list[SummaryRow]:
    """The rows of several summaries.

    Raises:
        UserError: one cannot be read, or two are of the same study and scale.
    """
    rows: list[SummaryRow] = []
    source: dict[tuple[str, str], Path] = {}
    for path in paths:
        found = read_summary(path)
        for study, scale in dict.fromkeys((row.study, row.scale) for row in found):
            other = source.setdefault((study, scale), path)
            if other != path:
                raise UserError(f"{path}: {other} is of {study} at scale {scale} too; give one of them")
        rows += found
    return rows
