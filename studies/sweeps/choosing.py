"""Which point of a grid is the best of each arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ...figures.tried import is_at_edge
from .outcomes import Outcome
from .trials import describe_point


@dataclass(frozen=True)
class Chosen:
    """The best point of an arm.

    Attributes:
        arm: its name.
        point: a value by dotted key.
        loss: median over the seeds of the final evaluation loss, in nats; a diverged run counts as infinite.
        tried: how many points there were to choose from.
        at_edge: whether some key with two or more numbers has its least or its largest here, so that a value beyond
            the grid might have been better.
    """

    arm: str
    point: Mapping[str, Any]
    loss: float
    tried: int
    at_edge: bool


def choose(outcomes: Iterable[Outcome]) -> dict[str, Chosen]:
    """The best point of each arm by the median over seeds of the final evaluation loss; the first of equal ones.

    An arm with a run that has not ended as done or diverged is left out: what is missing might have been the best.
    """
    arms: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        arms.setdefault(outcome.trial.arm, []).append(outcome)
    return {arm: _choose(arm, members) for arm, members in arms.items() if all(map(_is_result, members))}


def by_point(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes of one arm, gathered over their seeds."""
    points: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        points.setdefault(describe_point(outcome.trial.point), []).append(outcome)
    return points


def _is_result(outcome: Outcome) -> bool:
    return outcome.state in ("done", "diverged")


def _choose(arm: str, outcomes: Sequence[Outcome]) -> Chosen:
    points = by_point(outcomes).values()
    losses = [median(outcome.loss for outcome in members) for members in points]
    loss, members = min(zip(losses, points, strict=True), key=lambda pair: pair[0])
    point = members[0].trial.point
    at_edge = any(is_at_edge(point[key], [outcome.trial.point[key] for outcome in outcomes]) for key in point)
    return Chosen(arm, point, loss, len(losses), at_edge)
