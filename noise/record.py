"""The noise measurements of a run folder: ``noise.csv``, and the raw samples in ``noise/step_*.npz``."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, printable
from ..files import open_to_read, replace_text, replacing
from .report import Verdict
from .settings import Mode

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class NoiseRow:
    """One row of noise.csv; None is written as an empty field.

    Attributes:
        step: optimizer steps taken.
        scope: name of a parameter, or ``all``.
        statistic: what was measured.
        value: the measured value.
        ci_low: lower end of its 95 % interval.
        ci_high: upper end of it.
        control_low: lower end of the range that holds 95 % of the Gaussian surrogates.
        control_high: upper end of it.
        verdict: the statistic against its control.
        samples: number of noise samples.
        batch_size: examples behind each of them; 1 for single-example gradients.
        mode: the model's, ``train`` or ``eval``.
    """

    step: int
    scope: str
    statistic: str
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    control_low: float | None = None
    control_high: float | None = None
    verdict: Verdict | None = None
    samples: int
    batch_size: int
    mode: Mode


COLUMNS = tuple(field.name for field in fields(NoiseRow))


class NoiseRecord:
    """The noise measurements in a folder, at most one per step, in order.

    Every change replaces complete files: a killed process leaves none half written.

    Args:
        folder: created with the first measurement.
    """

    def __init__(self, folder: Path) -> None:
        self._table = folder / "noise.csv"
        self._samples = folder / "noise"

    def write(self, step: int, rows: Iterable[NoiseRow], arrays: Mapping[str, Any]) -> None:
        """Add the measurement of a step, or replace it."""
        self._samples.mkdir(parents=True, exist_ok=True)
        with replacing(self._path(step), temporary="unfinished.tmp", sync=True) as file:
            np.savez(file, **arrays)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(map(_fields, rows))
        lines = self._lines()
        earlier = [line for line in lines if _step(line) < step]
        later = [line for line in lines if _step(line) > step]
        self._write_lines([*earlier, text.getvalue(), *later])

    def cut(self, step: int) -> None:
        """Remove the measurements of later steps."""
        if self._table.exists():
            self._write_lines([line for line in self._lines() if _step(line) <= step])
        for later in self.steps():
            if later > step:
                self._path(later).unlink()

    def rows(self) -> list[dict[str, str]]:
        """All rows, as text by column.

        Raises:
            UserError: a row is damaged.
        """
        return list(csv.DictReader([",".join(COLUMNS), *self._lines()]))

    def is_complete(self, step: int) -> bool:
        """Whether all of a step's measurement is there; its rows are written last."""
        return any(_step(line) == step for line in self._lines())

    def steps(self) -> list[int]:
        """The steps whose raw samples are there, in order."""
        found = (re.fullmatch(r"step_(\d+)\.npz", path.name) for path in self._samples.glob("step_*.npz"))
        return sorted(int(match[1]) for match in found if match)

    def samples(self, step: int) -> dict[str, Array]:
        """The raw samples of a step: the arrays that ``write`` was given.

        Raises:
            UserError: they are missing or damaged.
        """
        path = self._path(step)
        try:
            with open_to_read(path) as file, np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except Exception as error:  # numpy and zipfile raise half a dozen kinds for a damaged file
            raise UserError(f"{path}: cannot be read: {printable(str(error) or type(error).__name__)[:160]}") from None

    def _path(self, step: int) -> Path:
        return self._samples / f"step_{step:06d}.npz"

    def _lines(self) -> list[str]:
        if not self._table.exists():
            return []
        lines = self._table.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        if not lines or not all(_is_complete_line(line) for line in lines[1:]):
            raise UserError(f"{self._table}: a line is damaged; remove the lines of its step and measure it again")
        return lines[1:]

    def _write_lines(self, lines: Iterable[str]) -> None:
        replace_text(self._table, "".join([",".join(COLUMNS) + "\n", *lines]), sync=True)


def _is_complete_line(line: str) -> bool:
    return line.endswith("\n") and line.count(",") == len(COLUMNS) - 1 and line.partition(",")[0].isdecimal()


def _step(line: str) -> int:
    return int(line.partition(",")[0])


def _fields(row: NoiseRow) -> list[str]:
    values = (getattr(row, column) for column in COLUMNS)
    return ["" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value) for value in values]
