"""The best point of a grid, and whether it lies at the edge: the one rule of sweeps, tables, figures and studies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Best:
    """The best of the points that were tried.

    Attributes:
        index: its place among them.
        score: its score; infinite where no point has a finite one.
        edges: the keys of which a value beyond those tried might have been better.
        tried: how many points there were.
    """

    index: int
    score: float
    edges: tuple[str, ...]
    tried: int

    @property
    def at_edge(self) -> bool:
        """Whether it lies at the edge in some key."""
        return bool(self.edges)


def best_point(points: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> Best:
    """The point with the lowest score, the first of equal ones.

    A score that is NaN counts as infinite, and a point with an infinite score (a run that diverged there) as tried. A
    key is at its edge where the best point has the least or the largest of two or more numbers that were tried, among
    all points or among those that differ from it in this key alone: grids need not be rectangular. Texts, booleans and
    keys with one number have no edge, hence neither has a single point.

    Args:
        points: what was tried, values by key; points may lack keys of others.
        scores: one per point, lower is better.

    Raises:
        ValueError: there are no points, or not as many as scores.
    """
    if not points or len(points) != len(scores):
        raise ValueError(f"one score per point is needed, got {len(scores)} for {len(points)}")
    ranked = [math.inf if math.isnan(score) else float(score) for score in scores]
    index = ranked.index(min(ranked))
    best = points[index]
    edges = tuple(key for key in best if _is_edge(key, best, points))
    return Best(index, ranked[index], edges, len(points))


def is_extreme(value: Any, values: Sequence[Any]) -> bool:
    """Whether ``value`` is the least or the largest of two or more different numbers."""
    numbers = {number for number in values if _is_number(number)}
    return _is_number(value) and len(numbers) > 1 and value in (min(numbers), max(numbers))


def _is_edge(key: str, best: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> bool:
    beside = [point for point in points if _without(key, point) == _without(key, best)]
    return any(is_extreme(best[key], [point.get(key) for point in some]) for some in (points, beside))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _without(key: str, point: Mapping[str, Any]) -> dict[str, Any]:
    return {other: value for other, value in point.items() if other != key}
