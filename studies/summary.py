"""``summary.csv`` of a finished study: the numbers that claims are judged by.

Tables of studies as CSV files.

The summaries of finished studies, wherever they lie.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..training.run_folder import read_status

Row = dict[str, Any]
"""Numbers and text by column."""


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


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """One number: of one seed, or over many trials with an interval of its own.

    Attributes:
        study: what it was measured in.
        scale: how large that study was.
        subject: what was measured, such as ``gpt2_nano/sgd``.
        quantity: which number of it, such as ``final_eval_loss``.
        seed: of the run; None where the row has an interval.
        value: infinite (or not a number) where the run diverged.
        ci_low: lower end of the 95 % interval; None where the row is of one seed.
        ci_high: its upper end.
        samples: independent trials behind the interval.
        tried: settings that were tried in tuning this subject; None where nothing was tuned.
        at_edge: whether the best setting lies at the edge of those tried; None where nothing was tuned.
        unit: of the value, such as ``nats``; empty where it has none.

    Raises:
        ValueError: the row has neither a seed nor a whole interval, or both, or its interval is upside down.
    """

    study: str
    scale: str
    subject: str
    quantity: str
    seed: int | None = None
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    samples: int | None = None
    tried: int | None = None
    at_edge: bool | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        interval = (self.ci_low, self.ci_high, self.samples)
        if self.seed is not None and any(part is not None for part in interval):
            raise ValueError("seed is given, so ci_low, ci_high and samples should be empty")
        if self.seed is None and any(part is None for part in interval):
            raise ValueError("seed is empty, so ci_low, ci_high and samples should be given")
        if self.ci_low is not None and self.ci_high is not None and self.ci_low > self.ci_high:
            raise ValueError("ci_low is above ci_high")

    @property
    def key(self) -> tuple[str, str, str, str, int | None]:
        """What no other row of a summary shares."""
        return self.study, self.scale, self.subject, self.quantity, self.seed


COLUMNS = tuple(field.name for field in fields(SummaryRow))


def write_summary(path: Path, rows: Sequence[SummaryRow]) -> None:
    """Write the rows as CSV, whole or not at all; None is an empty field.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError(f"{path}: a summary needs at least one row")
    write_table(path, [{column: _text(getattr(row, column)) for column in COLUMNS} for row in rows])


def read_summary(path: Path) -> list[SummaryRow]:
    """The rows of a summary.

    Raises:
        UserError: the file cannot be read, a column is missing or unknown, a field is damaged, or a row is given twice;
            the message names the file, the line and the column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, reader.fieldnames or ())
            rows: dict[tuple[str, str, str, str, int | None], SummaryRow] = {}
            for fields_by_column in reader:
                place = f"{path}, line {reader.line_num}"
                row = _row(place, fields_by_column)
                if row.key in rows:
                    raise UserError(f"{place}: column seed: {_name(row)} is there twice")
                rows[row.key] = row
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV file in UTF-8: {error}") from None
    return list(rows.values())


def _check_columns(path: Path, found: Sequence[str]) -> None:
    for column in COLUMNS:
        if column not in found:
            raise UserError(f"{path}, line 1: column {column} is missing")
    for column in found:
        if column not in COLUMNS:
            raise UserError(f"{path}, line 1: column {column} is not one of {', '.join(COLUMNS)}")


def _row(place: str, texts: dict[str, Any]) -> SummaryRow:
    values = {}
    for column, text in texts.items():
        if column is None or text is None:
            raise UserError(f"{place}: should have {len(COLUMNS)} fields, as the columns in line 1")
        kind, wanted = PARSERS[column]
        try:
            values[column] = kind(text)
        except ValueError:
            raise UserError(f"{place}: column {column} is {text!r}, should be {wanted}") from None
    try:
        return SummaryRow(**values)
    except ValueError as error:
        raise UserError(f"{place}: {error}") from None


def _name(row: SummaryRow) -> str:
    return f"{row.quantity} of {row.subject}" + ("" if row.seed is None else f" with seed {row.seed}")


def _text(value: Any) -> Any:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value


def _some_text(text: str) -> str:
    if not text.strip():
        raise ValueError
    return text


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError
    return int(text)


def _truth(text: str) -> bool:
    try:
        return {"true": True, "false": False}[text.lower()]
    except KeyError:
        raise ValueError from None


def _or_none(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: kind(text) if text else None


PARSERS: dict[str, tuple[Callable[[str], Any], str]] = {
    **dict.fromkeys(("study", "scale", "subject", "quantity"), (_some_text, "some text")),
    "value": (float, "a number"),
    **dict.fromkeys(("ci_low", "ci_high"), (_or_none(float), "a number or empty")),
    **dict.fromkeys(("seed", "samples", "tried"), (_or_none(_whole_number), "a whole number or empty")),
    "at_edge": (_or_none(_truth), "true, false or empty"),
    "unit": (str, "text"),
}
"""How the text of each column is read, and what it should be."""


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
