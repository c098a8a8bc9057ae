"""Slopes and bootstrap intervals against what is known."""

from __future__ import annotations

import numpy as np
import pytest
from whyadam.synthetic.intervals import ends, log_slope, resampled, statistics


def test_the_slope_of_a_power_law_is_its_power() -> None:
    steps = np.array([10, 30, 200, 1000])
    errors = np.stack([5 * steps**-0.7, 0.1 * steps**1.2])
    np.testing.assert_allclose(log_slope(steps, errors), [-0.7, 1.2])


def test_statistics_are_over_trials() -> None:
    values = np.arange(1.0, 101).reshape(1, 100)
    found = statistics(values)
    assert found["mean"][0] == found["median"][0] == 50.5
    assert found["quantile_90"][0] == pytest.approx(90.1)
    assert found["quantile_99"][0] == pytest.approx(99.01)


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    """95 % within three binomial standard errors of 1.5 %; an interval of 90 % or 99.9 % fails."""
    generator = np.random.default_rng(0)
    covered = 0
    for repetition in range(200):
        values = generator.uniform(size=(1, 80))
        low, high = ends(resampled(values, lambda drawn: {"mean": drawn.mean(axis=-1)}, 200, seed=repetition)["mean"])
        covered += bool(low[0] <= 0.5 <= high[0])
    assert 0.95 - 0.046 <= covered / 200 <= 0.95 + 0.046


def test_a_trial_is_drawn_with_all_its_entries() -> None:
    """Errors at different K of one trial belong together: their ratio is the same in each sample."""
    values = np.random.default_rng(0).random(50)
    drawn = resampled(np.stack([values, 3 * values]), statistics, 20, seed=1)["mean"]
    np.testing.assert_allclose(drawn[:, 1] / drawn[:, 0], 3)


def test_infinite_values_stay_in_order() -> None:
    """Interpolating between infinite values would give NaN."""
    low, high = ends(np.array([1.0] * 50 + [np.inf] * 50))
    assert (low, high) == (1.0, np.inf)
