"""One side of a comparison: the rows of a summary that belong to one number of one subject."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from .effects import Effect
from .summary import SummaryRow

FEWEST_SEEDS = 3
"""Fewer make no verdict; nor do fewer samples behind an interval."""


@dataclass(frozen=True)
class Side:
    """The rows of one quantity of one subject, in one study at one scale.

    Attributes:
        subject: whose.
        quantity: which number.
        rows: one a seed, or a single one with an interval.
    """

    subject: str
    quantity: str
    rows: tuple[SummaryRow, ...]

    @classmethod
    def of(cls, rows: Sequence[SummaryRow], subject: str, quantity: str) -> Side:
        """The rows out of ``rows`` that belong to it."""
        chosen = (row for row in rows if (row.subject, row.quantity) == (subject, quantity))
        return cls(subject, quantity, tuple(chosen))

    @property
    def name(self) -> str:
        """What a reader calls it."""
        return f"{self.quantity} of {self.subject}"

    @property
    def by_seed(self) -> dict[int, float]:
        """The values by seed; empty where the row has an interval of its own."""
        return {row.seed: row.value for row in self.rows if row.seed is not None}

    @property
    def interval(self) -> Effect:
        """The row that has an interval of its own."""
        (row,) = self.rows
        return Effect(row.value, _number(row.ci_low), _number(row.ci_high))

    @property
    def mean(self) -> float:
        """Over the seeds, or the value of the row with an interval."""
        return fmean(row.value for row in self.rows)

    @property
    def samples(self) -> int:
        """Behind the row with an interval."""
        return min(row.samples or 0 for row in self.rows)

    @property
    def tried(self) -> int | None:
        """Settings tried in tuning, the fewest where rows differ; None where nothing was tuned."""
        return min((row.tried for row in self.rows if row.tried is not None), default=None)

    @property
    def is_positive(self) -> bool:
        """Whether every value has a logarithm."""
        return all(row.value > 0 for row in self.rows)

    def problems(self) -> list[str]:
        """Why no effect can be computed."""
        found = []
        if not all(math.isfinite(row.value) for row in self.rows):
            found.append(f"{self.name} is not finite")
        if any(math.isnan(_number(end)) for row in self.rows for end in (row.ci_low, row.ci_high) if end is not None):
            found.append(f"the interval of {self.name} is not a number")
        if len({row.seed for row in self.rows}) < len(self.rows):
            found.append(f"the summary has {self.name} twice")
        elif 0 < len(self.by_seed) < len(self.rows):
            found.append(f"{self.name} has rows of seeds and a row with an interval")
        return found

    def doubts(self) -> list[str]:
        """Why the effect decides nothing, though it can be computed."""
        found = []
        if any(row.at_edge for row in self.rows):
            found.append(f"the best setting of {self.subject} lies at the edge of its grid")
        if len({row.tried for row in self.rows}) > 1:
            found.append(f"not every seed of {self.subject} had the same number of settings")
        count, counted = (len(self.by_seed), "seeds") if self.by_seed else (self.samples, "samples")
        if count < FEWEST_SEEDS:
            found.append(f"{counted} of {self.name}: {count}, at least {FEWEST_SEEDS} are needed")
        return found


def shared_seeds(sides: Sequence[Side]) -> list[int]:
    """The seeds that all sides have, in order."""
    return sorted(set.intersection(*(set(side.by_seed) for side in sides)))


def problems_of_pair(sides: Sequence[Side]) -> list[str]:
    """Why the sides cannot be compared with each other."""
    with_seeds = [bool(side.by_seed) for side in sides]
    if any(with_seeds) and not all(with_seeds):
        return ["one side has seeds, the other an interval"]
    if all(with_seeds) and not shared_seeds(sides):
        return ["the sides have no seed in common"]
    return []


def doubts_of_pair(sides: Sequence[Side]) -> list[str]:
    """Why a comparison of the sides decides nothing, though it can be computed."""
    found = []
    if len({side.tried for side in sides}) > 1:
        counts = (f"{'nothing' if side.tried is None else side.tried} for {side.subject}" for side in sides)
        found.append(f"unequal tuning: settings tried are {' and '.join(counts)}")
    if 0 < len(shared_seeds(sides)) < min(FEWEST_SEEDS, *(len(side.by_seed) for side in sides)):
        found.append(f"seeds in common: {len(shared_seeds(sides))}, at least {FEWEST_SEEDS} are needed")
    return found


def _number(end: float | None) -> float:
    return math.nan if end is None else end
