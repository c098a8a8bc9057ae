"""Intervals: against scipy, against the exact bootstrap, and by how often they hold the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from whyadam.studies.statistics import Effect, difference_of_independent, mean_over_seeds, rank_correlation, widened

Array = NDArray[np.float64]
DRAWS = 600


def coverage(interval: Callable[[np.random.Generator], Effect], truth: float, draws: int = DRAWS) -> float:
    """How often the interval holds the truth."""
    generator = np.random.default_rng(0)
    effects = [interval(generator) for _ in range(draws)]
    return sum(effect.low <= truth <= effect.high for effect in effects) / draws


@pytest.mark.parametrize("count", [3, 5, 12])
def test_differences_of_pairs_have_scipys_interval(count: int) -> None:
    left, right = np.random.default_rng(count).normal(size=(2, count))
    ours = mean_over_seeds(left - right)
    theirs = stats.ttest_rel(left, right).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.value == pytest.approx((left - right).mean())


def test_ratios_are_compared_on_the_logarithm() -> None:
    left, right = np.exp(np.random.default_rng(0).normal(size=(2, 4)))
    ours = mean_over_seeds(np.log(left) - np.log(right)).map(math.exp)
    theirs = stats.ttest_1samp(np.log(left / right), 0).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((math.exp(theirs.low), math.exp(theirs.high)))
    assert ours.value == pytest.approx(math.prod(left / right) ** (1 / 4))


def test_the_interval_is_the_agreed_one_with_the_exact_bootstrap() -> None:
    """That is t·√(n/(n − 1)) times the standard deviation over all 4⁴ bootstrap samples."""
    values = np.array([0.3, 1.1, 0.9, 2.0])
    means = [np.mean(sample) for sample in product(values, repeat=4)]
    half_width = stats.t.ppf(0.975, 3) * math.sqrt(4 / 3) * np.std(means)
    ours = mean_over_seeds(values)
    assert ours.high - ours.value == pytest.approx(half_width)


def test_one_seed_says_nothing_about_the_spread() -> None:
    assert mean_over_seeds([2.0]) == Effect(2.0, -math.inf, math.inf)


@pytest.mark.parametrize("count", [3, 8])
def test_means_of_few_seeds_hold_the_truth_in_95_percent(count: int) -> None:
    assert 0.92 < coverage(lambda generator: mean_over_seeds(generator.normal(1.0, 2.0, count)), 1.0) < 0.98


def _percentile(values: Array, generator: np.random.Generator) -> Effect:
    means = values[generator.integers(len(values), size=(500, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Effect(float(values.mean()), float(low), float(high))


def test_percentile_intervals_of_six_seeds_need_widening() -> None:
    def plain(generator: np.random.Generator) -> Effect:
        return _percentile(generator.normal(size=6), generator)

    assert coverage(plain, 0.0) < 0.91
    assert 0.92 < coverage(lambda generator: widened(plain(generator), 6), 0.0) < 0.98


def test_widening_keeps_the_sides_apart_and_spares_large_samples() -> None:
    wide = widened(Effect(1.0, 0.5, 3.0), 6)
    assert (wide.value - wide.low, wide.high - wide.value) == pytest.approx((0.5 * 1.4367, 2.0 * 1.4367), rel=1e-4)
    assert widened(Effect(1.0, 0.5, math.inf), 100_000).high == math.inf
    assert widened(Effect(1.0, 0.5, 3.0), 100_000).low == pytest.approx(0.5, abs=1e-4)


def test_differences_of_independent_estimates_hold_the_truth_in_95_percent() -> None:
    """Of unequal spread and size, as the cells of a study are."""

    def interval(generator: np.random.Generator) -> Effect:
        left, right = generator.normal(3.0, 1.0, 20), generator.normal(1.0, 2.5, 12)
        return difference_of_independent(mean_over_seeds(left), mean_over_seeds(right))

    assert 0.92 < coverage(interval, 2.0) < 0.98


def test_half_widths_are_added_in_quadrature_each_on_its_side() -> None:
    found = difference_of_independent(Effect(10.0, 7.0, 11.0), Effect(2.0, 1.0, 6.0))
    assert found == Effect(8.0, 8.0 - 5.0, 8.0 + math.sqrt(2))
    assert difference_of_independent(Effect(10.0, 7.0, math.inf), Effect(2.0, 1.0, 6.0)) == Effect(8.0, 3.0, math.inf)


def test_an_estimate_outside_its_percentile_interval_adds_nothing_on_that_side() -> None:
    assert difference_of_independent(Effect(1.0, 2.0, 3.0), Effect(0.0, 0.0, 0.0)) == Effect(1.0, 1.0, 3.0)


def test_rank_correlation_is_spearmans_with_ties() -> None:
    x, y = [1, 2, 2, 5, 9, 9, 4], [3, 3, 8, 8, 1, 0, 7]
    assert rank_correlation(x, y).value == pytest.approx(stats.spearmanr(x, y).statistic)


def test_rank_correlations_of_nine_subjects_hold_the_truth_in_95_percent() -> None:
    def interval(generator: np.random.Generator) -> Effect:
        x, y = generator.normal(size=(2, 9))
        return rank_correlation(x, y, resamples=400)

    assert 0.9 < coverage(interval, 0.0, draws=300) < 0.99


def test_equal_values_have_no_rank_correlation() -> None:
    assert math.isnan(rank_correlation([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).value)
