"""``summary.csv`` of a study: the numbers that claims are judged by, and where they come from."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from ..errors import UserError
from ..files import write_csv
from .statistics import Effect


class IncompleteError(UserError):
    """A part of a study's results is not there."""


MISSING_RUN = "run"
"""The quantity of a row that stands for a run which is missing."""


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _only_digits(value: Any) -> Any:
    if isinstance(value, str) and not value.isdecimal():
        raise ValueError
    return value


def _true_or_false(value: Any) -> Any:
    if isinstance(value, str) and value.lower() not in ("true", "false"):
        raise ValueError
    return value


Text = Annotated[str, Field(pattern=r"\S")]
Number = Annotated[float | None, BeforeValidator(_none_if_empty)]
Count = Annotated[
    Annotated[int, BeforeValidator(_only_digits), Field(ge=0)] | None,
    BeforeValidator(_none_if_empty),
]
Truth = Annotated[Annotated[bool, BeforeValidator(_true_or_false)] | None, BeforeValidator(_none_if_empty)]


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """One number: of one seed, or over many trials with an interval of its own; or a run that has no number.

    Attributes:
        study: what it was measured in.
        scale: how large that study was.
        subject: what was measured, such as ``gpt2_nano/sgd``.
        quantity: which number of it, such as ``final_eval_loss``; ``run`` where ``state`` is given.
        seed: of the run; None where the row has an interval.
        value: infinite (or NaN) where the run diverged; NaN where it is missing.
        ci_low: lower end of the 95 % interval; None where the row is of one seed.
        ci_high: its upper end.
        samples: independent trials behind the interval.
        tried: settings that were tried in tuning this subject; None where nothing was tuned.
        at_edge: whether the best setting lies at the edge of those tried; None where nothing was tuned.
        unit: of the value, such as ``nats``; empty where it has none.
        state: of a run that is missing, such as ``failed``; else empty.
        made: when the study ended, in UTC (ISO 8601); empty in older files.
        settings: digest of the study's settings; empty in older files.

    Raises:
        ValueError: the row has neither a seed nor a complete interval, or both, or its interval is upside down.
    """

    study: Text
    scale: Text
    subject: Text
    quantity: Text
    seed: Count = None
    value: float
    ci_low: Number = None
    ci_high: Number = None
    samples: Count = None
    tried: Count = None
    at_edge: Truth = None
    unit: str = ""
    state: str = ""
    made: str = ""
    settings: str = ""

    def __post_init__(self) -> None:
        interval = (self.ci_low, self.ci_high, self.samples)
        if self.seed is not None and any(part is not None for part in interval):
            raise ValueError("seed is given, so ci_low, ci_high and samples should be empty")
        if self.seed is None and any(part is None for part in interval):
            raise ValueError("seed is empty, so ci_low, ci_high and samples should be given")
        if self.ci_low is not None and self.ci_high is not None and self.ci_low > self.ci_high:
            raise ValueError("ci_low is above ci_high")

    @classmethod
    def of_interval(
        cls, study: str, scale: str, subject: str, quantity: str, effect: Effect, samples: int, **more: Any
    ) -> SummaryRow:
        """A number with an interval.

        Args:
            study: which.
            scale: how large.
            subject: what was measured.
            quantity: which number of it.
            effect: the number and its interval.
            samples: behind the interval.
            more: further fields.
        """
        value, low, high = map(float, (effect.value, effect.low, effect.high))
        key: dict[str, Any] = {"study": study, "scale": scale, "subject": subject, "quantity": quantity}
        return cls(**key, value=value, ci_low=low, ci_high=high, samples=samples, **more)

    @classmethod
    def of_missing_run(cls, study: str, scale: str, subject: str, seed: int, state: str) -> SummaryRow:
        """A run that should be there and is not."""
        return cls(
            study=study, scale=scale, subject=subject, quantity=MISSING_RUN, seed=seed, value=math.nan, state=state
        )

    @property
    def key(self) -> tuple[str, str, str, str, int | None]:
        """What no other row of a summary shares."""
        return self.study, self.scale, self.subject, self.quantity, self.seed


COLUMNS = tuple(field.name for field in fields(SummaryRow))
ADDED = ("state", "made", "settings")
"""Columns that older files lack."""

EXPECTED = {
    **dict.fromkeys(("study", "scale", "subject", "quantity"), "some text"),
    "value": "a number",
    **dict.fromkeys(("ci_low", "ci_high"), "a number or empty"),
    **dict.fromkeys(("seed", "samples", "tried"), "a whole number or empty"),
    "at_edge": "true, false or empty",
}


def write_summary(path: Path, rows: Sequence[SummaryRow]) -> None:
    """Write the rows as CSV, completely or not at all; None is an empty field.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError(f"{path}: a summary needs at least one row")
    write_csv(path, [{column: _text(row, column) for column in COLUMNS} for row in rows])


def _text(row: SummaryRow, column: str) -> Any:
    value = getattr(row, column)
    if column == "value" and row.state:
        return None
    return str(value).lower() if isinstance(value, bool) else value


def read_summary(path: Path) -> list[SummaryRow]:
    """The rows of a summary.

    Raises:
        UserError: the file cannot be read, a column is missing or unknown, a field is damaged, or a row is given twice;
            the message names the file, the line and the column.
    """
    rows: dict[tuple[str, str, str, str, int | None], SummaryRow] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, reader.fieldnames or ())
            for texts in reader:
                place = f"{path}, line {reader.line_num}"
                row = _row(place, texts, len(reader.fieldnames or ()))
                if row.key in rows:
                    seed = "" if row.seed is None else f" with seed {row.seed}"
                    raise UserError(f"{place}: column seed: {row.quantity} of {row.subject}{seed} is there twice")
                rows[row.key] = row
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV file in UTF-8: {error}") from None
    return list(rows.values())


def _check_columns(path: Path, found: Sequence[str]) -> None:
    for column in COLUMNS:
        if column not in found and column not in ADDED:
            raise UserError(f"{path}, line 1: column {column} is missing")
    for column in found:
        if column not in COLUMNS:
            raise UserError(f"{path}, line 1: column {column} is not one of {', '.join(COLUMNS)}")


@cache
def _adapter() -> TypeAdapter[SummaryRow]:
    return TypeAdapter(SummaryRow)


def _row(place: str, texts: dict[str, Any], count: int) -> SummaryRow:
    if None in texts or None in texts.values():
        raise UserError(f"{place}: should have {count} fields, as the columns in line 1")
    values = texts | {"value": "nan"} if texts.get("state") and not texts["value"] else texts
    try:
        return _adapter().validate_python(values)
    except ValidationError as error:
        details = error.errors()[0]
    if not details["loc"]:
        raise UserError(f"{place}: {details['ctx']['error']}")
    column = str(details["loc"][0])
    raise UserError(f"{place}: column {column} is {texts[column]!r}, should be {EXPECTED[column]}")


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
