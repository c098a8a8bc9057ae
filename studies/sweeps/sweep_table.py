"""A sweep in plain text: one line a point of each arm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from statistics import median

from ...figures.table import aligned
from .choosing import Chosen, by_point
from .outcomes import Outcome
from .sweep import SweepResult
from .trials import describe_point

COLUMNS = ("arm", "point", "seeds", "runs", "median eval loss", "range", "")


def sweep_table(result: SweepResult) -> str:
    """The grid, with a mark at the best point of each arm; then, if there was one, the second stage."""
    text = aligned(COLUMNS, _lines(result.tuning, result.chosen.values()))
    if len(result.outcomes) == len(result.tuning):
        return text
    return f"tuning\n{text}\n\nat the best of each arm\n{aligned(COLUMNS[:-1], _lines(result.final))}"


def _lines(outcomes: Sequence[Outcome], chosen: Iterable[Chosen] | None = None) -> Iterator[tuple[str, ...]]:
    best = {(choice.arm, describe_point(choice.point)): choice for choice in chosen or ()}
    for arm in dict.fromkeys(outcome.trial.arm for outcome in outcomes):
        points = by_point(outcome for outcome in outcomes if outcome.trial.arm == arm)
        for point, members in points.items():
            states = Counter(outcome.state for outcome in members)
            line = (arm, point, str(len(members)), _count(states), *_losses(members))
            yield line if chosen is None else (*line, _mark(best.get((arm, point))))


def _count(states: Counter[str]) -> str:
    return ", ".join(state if count == states.total() else f"{count} {state}" for state, count in states.items())


def _losses(outcomes: Sequence[Outcome]) -> tuple[str, str]:
    losses = [outcome.loss for outcome in outcomes if outcome.loss < inf]
    if not losses:
        return "", ""
    spread = f"{min(losses):.4f} to {max(losses):.4f}" if len(losses) > 1 else ""
    return f"{median(outcome.loss for outcome in outcomes):.4f}", spread


def _mark(choice: Chosen | None) -> str:
    if choice is None:
        return ""
    return "best, at the edge of the grid" if choice.at_edge else "best"
