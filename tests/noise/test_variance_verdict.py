"""When extreme-value intervals are taken for an infinite variance, on intervals written down."""

from __future__ import annotations

import pytest
from whyadam.noise.report import variance_is_infinite

Intervals = dict[str, tuple[float, float]]

ALL_BELOW = dict.fromkeys(("hill_0.05", "hill_0.1", "hill_0.2", "moment_0.2"), (0.8, 1.9))
WIDE = {"hill_0.05": (0.5, 4.0), "hill_0.1": (0.8, 3.0), "hill_0.2": (1.0, 3.0), "moment_0.2": (0.8, float("inf"))}
BELOW = {"hill_0.02": (1.3, 2.1), "hill_0.05": (1.4, 1.8), "moment_0.05": (1.3, 1.9)}
ACROSS = {"hill_0.004": (1.2, 2.2), "hill_0.05": (1.4, 1.8)}


@pytest.mark.parametrize(
    ("reason", "norms", "coordinates", "across", "expected"),
    [
        ("coordinates below 2, nothing against it", WIDE, BELOW, ACROSS, True),
        ("nothing known across coordinates", WIDE, BELOW, {}, True),
        ("one of the two main intervals reaches 2", WIDE, BELOW | {"moment_0.05": (1.3, 2.01)}, ACROSS, False),
        ("the other one does", WIDE, BELOW | {"hill_0.05": (1.3, 2.01)}, ACROSS, False),
        ("a smaller k contradicts", WIDE, BELOW | {"hill_0.02": (2.1, 3.0)}, ACROSS, False),
        ("the largest of a batch contradict", WIDE, BELOW, ACROSS | {"hill_0.004": (2.1, 6.0)}, False),
        ("norms have a lighter tail", WIDE | {"hill_0.2": (2.5, 6.0)}, BELOW, ACROSS, False),
        ("norms below 2 for every k", ALL_BELOW, {}, {}, True),
        (
            "norms not below 2 for the smallest k",
            ALL_BELOW | {"hill_0.05": (1, 5)},
            {},
            {},
            False,
        ),
        ("an interval could not be found", WIDE, BELOW | {"moment_0.05": (float("nan"),) * 2}, ACROSS, False),
    ],
)
def test_which_intervals_mean_infinite_variance(
    reason: str, norms: Intervals, coordinates: Intervals, across: Intervals, expected: bool
) -> None:
    assert variance_is_infinite(norms, coordinates, across) is expected, reason
