"""The finished tables of a synthetic study, as rows of a summary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...training.status import read_status
from ..csv_tables import Row, read_table
from .effects import Effect, widened
from .summary import SummaryRow


@dataclass(frozen=True)
class Finished:
    """A finished study.

    Attributes:
        name: of the study.
        folder: where its tables are.
        scale: that it was run at.
    """

    name: str
    folder: Path
    scale: str

    def setting(self, name: str) -> Any:
        """One setting of the scale.

        Raises:
            UserError: status.json cannot be read, or does not have it.
        """
        path = self.folder / "status.json"
        settings = read_status(path).get("settings", {})
        if name not in settings:
            raise UserError(f"{path}: should have settings.{name}")
        return settings[name]

    def table(self, name: str) -> list[Row]:
        """The rows of one of its tables."""
        return read_table(self.folder / f"{name}.csv")

    def row(self, subject: str, quantity: str, effect: Effect, samples: int, **more: Any) -> SummaryRow:
        """A row of its summary.

        Args:
            subject: what was measured.
            quantity: which number of it.
            effect: the number and its interval.
            samples: behind the interval.
            more: further fields of the row.
        """
        return SummaryRow(
            study=self.name,
            scale=self.scale,
            subject=subject,
            quantity=quantity,
            value=effect.value,
            ci_low=effect.low,
            ci_high=effect.high,
            samples=samples,
            **more,
        )


def estimate(row: Row, samples: int, prefix: str = "", value: str = "value") -> Effect:
    """The number in a row of a table, with its percentile interval made wide enough for so few samples.

    Args:
        row: with columns for the number and for ``ci_low`` and ``ci_high``.
        samples: that were resampled.
        prefix: of the names of both ends of the interval.
        value: the column of the number.
    """
    return widened(Effect(row[value], row[f"{prefix}ci_low"], row[f"{prefix}ci_high"]), samples)


def shifted(effect: Effect, by: float) -> Effect:
    """The effect less a number that is known exactly."""
    return effect.map(lambda number: number - by)
