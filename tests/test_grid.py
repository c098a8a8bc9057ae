"""The best point of a grid and its edges: ties, NaN, divergence, grids of every shape."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from whyadam.grid import Best, best_point


def lrs(*values: float) -> list[dict[str, Any]]:
    return [{"lr": value} for value in values]


def test_the_lowest_score_wins_and_an_inner_point_has_no_edge() -> None:
    assert best_point(lrs(0.1, 1.0, 0.3), [3.0, 2.0, 1.0]) == Best(2, 1.0, (), 3)


@pytest.mark.parametrize(("scores", "at_edge"), [([1.0, 2.0, 3.0], True), ([2.0, 3.0, 1.0], True), ([2, 1, 3], False)])
def test_either_end_is_an_edge(scores: list[float], at_edge: bool) -> None:
    assert best_point(lrs(0.1, 0.3, 1.0), scores).at_edge is at_edge


def test_the_first_of_equal_points_is_the_best() -> None:
    """Whatever a sort or a hash would do."""
    assert best_point(lrs(0.3, 0.1, 1.0), [1.0, 1.0, 1.0]).index == 0
    assert best_point(lrs(1.0, 0.3, 0.1), [2.0, 1.0, 1.0]).index == 1


def test_nan_and_infinity_are_never_better_and_yet_tried() -> None:
    """NaN compares as neither better nor worse: as the first it would win a plain minimum."""
    assert best_point(lrs(0.1, 0.3, 1.0), [nan, 2.0, inf]) == Best(1, 2.0, (), 3)
    assert best_point(lrs(0.1, 0.3, 1.0), [-inf, nan, 0.0]).index == 0


def test_where_nothing_is_finite_the_first_stands_for_all() -> None:
    assert best_point(lrs(1.0, 2.0), [nan, inf]) == Best(0, inf, ("lr",), 2)


def test_one_point_was_not_chosen_and_has_no_edge() -> None:
    assert best_point(lrs(0.1), [1.0]) == Best(0, 1.0, (), 1)
    assert best_point([{}], [1.0]) == Best(0, 1.0, (), 1)


def test_words_booleans_and_keys_with_one_number_have_no_edge() -> None:
    points = [{"lr": 0.1, "schedule": name, "nesterov": flag} for name in ("a", "b") for flag in (False, True)]
    assert best_point(points, [1.0, 2.0, 3.0, 4.0]).edges == ()


def test_every_key_at_its_end_is_named() -> None:
    points = [{"lr": lr, "clip": clip} for lr in (0.1, 0.2, 0.3) for clip in (1, 2, 3)]
    for best, edges in (({"lr": 0.2, "clip": 2}, ()), ({"lr": 0.1, "clip": 2}, ("lr",)), (points[-1], ("lr", "clip"))):
        assert best_point(points, [float(point != best) for point in points]).edges == edges


def test_a_staggered_grid_has_its_edges_within_its_rows() -> None:
    """A rate of 2 is inside 0.01 … 10, yet the largest that was tried with this clip."""
    tried = {1: (1.0, 3.0, 10.0), 10: (0.2, 0.6, 2.0), 100: (0.01, 0.03, 0.1)}
    points = [{"lr": lr, "clip": clip} for clip, rates in tried.items() for lr in rates]
    best = best_point(points, [float(point != {"lr": 2.0, "clip": 10}) for point in points])
    assert best.edges == ("lr",)
    assert best_point(points, [float(point != {"lr": 0.6, "clip": 10}) for point in points]).edges == ()


def test_points_may_lack_keys_of_others() -> None:
    points = [{"lr": 0.1, "clip": None}, {"lr": 0.3}, {"lr": 1.0, "clip": 2.0}]
    assert best_point(points, [2.0, 1.0, 3.0]).edges == ()
    assert best_point(points, [2.0, 3.0, 1.0]).edges == ("lr",)


@pytest.mark.parametrize(("points", "scores"), [([], []), (lrs(0.1, 0.2), [1.0])])
def test_as_many_scores_as_points_are_needed(points: list[dict[str, Any]], scores: list[float]) -> None:
    with pytest.raises(ValueError, match="one score per point"):
        best_point(points, scores)
