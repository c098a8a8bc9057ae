"""Intervals and tests: against scipy, closed forms and counts by hand, and by how often they hold the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations, product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from whyadam.studies.statistics import (
    Effect,
    bca_interval,
    correlation_test,
    difference_of_independent,
    holm,
    mean_over_seeds,
    rank_correlation,
    two_way_interval,
    widened,
)

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


def test_rank_correlations_of_nine_subjects_hold_the_truth_in_93_percent_or_more() -> None:
    """Not in 95 %: percentiles of so few subjects are a little narrow. Three standard errors of 1,000 draws: 2.4 %."""

    def interval(generator: np.random.Generator) -> Effect:
        x, y = generator.normal(size=(2, 9))
        return rank_correlation(x, y, resamples=400)

    found = coverage(interval, 0.0, draws=1000)
    assert 0.93 - 3 * math.sqrt(0.93 * 0.07 / 1000) < found < 0.98


def test_equal_values_have_no_rank_correlation() -> None:
    assert math.isnan(rank_correlation([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).value)


# Exact tests, many tests, and bootstraps


@pytest.mark.parametrize("count", [4, 5, 7])
def test_perfect_agreement_has_the_least_p_that_there_is(count: int) -> None:
    """One order of n! agrees, one is opposite."""
    least = 1 / math.factorial(count)
    assert correlation_test(range(count), range(count)).p == pytest.approx(2 * least)
    assert correlation_test(range(count), range(count), "greater").p == pytest.approx(least)
    assert correlation_test(range(count), range(count), "less").p == 1


def test_the_permutation_test_is_that_of_all_orders_counted_by_hand() -> None:
    """With ties in both; a sum in another order must not make equal correlations unequal."""
    x, y = [1, 1, 2, 5, 3, 3], [2, 4, 4, 9, 3, 7]
    ours = correlation_test(x, y, "greater")
    every = [round(float(stats.spearmanr(order, y).statistic), 9) for order in permutations(x)]
    assert ours.p == pytest.approx(sum(value >= every[0] for value in every) / 720)
    assert (ours.subjects, ours.is_exact) == (6, True)
    assert ours.correlation == pytest.approx(every[0])


def test_with_many_subjects_random_orders_agree_with_the_t_distribution() -> None:
    x, y = np.random.default_rng(3).normal(size=(2, 40))
    found = correlation_test(x, x + 3 * y)
    assert not found.is_exact
    assert found.p == pytest.approx(stats.spearmanr(x, x + 3 * y).pvalue, abs=0.015)
    assert correlation_test(x, x).p == pytest.approx(2 / 10_000)


def test_a_correlation_without_ranks_or_numbers_is_none() -> None:
    assert math.isnan(correlation_test([1, 1, 1], [1, 2, 3]).p)
    for x, y in (([1, 2], [1, 2, 3]), ([1], [1]), ([1, math.nan, 2], [1, 2, 3]), ([1, 2, 3], [1, math.inf, 2])):
        with pytest.raises(ValueError, match="two finite numbers per subject"):
            correlation_test(x, y)


def test_the_permutation_test_rejects_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    p_values = [correlation_test(*generator.normal(size=(2, 6))).p for _ in range(DRAWS)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / DRAWS)
    assert np.mean(np.array(p_values) <= 0.3) == pytest.approx(0.3, abs=3 * math.sqrt(0.21 / DRAWS))


def test_holm_is_the_textbook_example_in_the_given_order() -> None:
    """4 · 0.005, 3 · 0.01, 2 · 0.03, and 0.04 not below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_holm_never_exceeds_one_and_counts_what_could_not_be_tested() -> None:
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    first, second = holm([0.03, math.nan])
    assert first == pytest.approx(0.06)
    assert math.isnan(second)
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, 1.1])


def test_holm_keeps_the_error_of_the_family() -> None:
    """Five true hypotheses: some rejection in at most 5 %; without adjustment it would be 23 %."""
    p_values = np.random.default_rng(0).uniform(size=(2000, 5))
    wrong = np.mean([min(holm(list(family))) <= 0.05 for family in p_values])
    assert wrong == pytest.approx(1 - 0.99**5, abs=3 * math.sqrt(0.05 * 0.95 / 2000))
    assert np.mean(p_values.min(axis=1) <= 0.05) > 0.2


def test_bca_is_efrons_formula_for_the_mean() -> None:
    """z₀ from the share of means below the mean, a = Σd³/(6(Σd²)^1.5) from the jackknife, written out here."""
    values = np.random.default_rng(5).exponential(size=25)
    ours = bca_interval(values, resamples=20_000)
    means = values[np.random.default_rng(1).integers(25, size=(100_000, 25))].mean(axis=1)
    z0 = stats.norm.ppf(np.mean(means < values.mean()))
    d = values - values.mean()
    a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    shifted = [z0 + (z0 + z) / (1 - a * (z0 + z)) for z in stats.norm.ppf([0.025, 0.975])]
    low, high = np.quantile(means, stats.norm.cdf(shifted))
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.02)
    assert ours.value == pytest.approx(values.mean())
    assert ours.high - ours.value > 1.1 * (ours.value - ours.low), "skewed to the right, as the numbers are"


def test_a_bootstrap_without_spread_or_numbers() -> None:
    assert bca_interval([2.0]) == Effect(2.0, -math.inf, math.inf)
    assert bca_interval([2.0, 2.0, 2.0]) == Effect(2.0, 2.0, 2.0)
    assert bca_interval([1.0, 2.0, 9.0, 4.0], np.median).value == 3.0
    for values in ([], [1.0, math.inf], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="a bootstrap needs"):
            bca_interval(values)


def test_the_two_way_bootstrap_has_the_variance_of_its_closed_form() -> None:
    """S/n + E/m + R/(nm); the interval is 1.96 such deviations to both sides, times the widening for 30 seeds."""
    generator = np.random.default_rng(2)
    seeds, examples = 30, 200
    values = generator.normal(size=(seeds, 1)) + 2 * generator.normal(size=examples)
    values = values + 3 * generator.normal(size=(seeds, examples))
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    rest = values - rows[:, None] - columns + values.mean()
    variance = rows.var() / seeds + columns.var() / examples + rest.var() / (seeds * examples)
    found = two_way_interval(values)
    half_width = stats.t.ppf(0.975, seeds - 1) * math.sqrt(seeds / (seeds - 1) * variance)
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.value, found.value - found.low) == pytest.approx((half_width, half_width), rel=0.05)


@pytest.mark.parametrize("of_seeds", [0.0, 1.0])
def test_two_way_intervals_hold_the_truth_for_other_seeds_and_examples(of_seeds: float) -> None:
    """An interval over six seeds alone knows nothing of the examples, the same for every seed."""

    def drawn(generator: np.random.Generator) -> Array:
        seeds, examples = of_seeds * generator.normal(size=(6, 1)), 3 * generator.normal(size=80)
        return seeds + examples + generator.normal(size=(6, 80))

    held = coverage(lambda generator: two_way_interval(drawn(generator), resamples=500), 0.0, draws=300)
    assert held > 0.92
    over_seeds = coverage(lambda generator: mean_over_seeds(drawn(generator).mean(axis=1)), 0.0, draws=300)
    assert over_seeds < held
    if not of_seeds:
        assert over_seeds < 0.5


def test_one_seed_or_one_example_says_nothing_of_others() -> None:
    assert two_way_interval([[1.0, 3.0]]) == Effect(2.0, -math.inf, math.inf)
    assert two_way_interval([[1.0], [3.0]]) == Effect(2.0, -math.inf, math.inf)
    assert two_way_interval(np.full((3, 4), 2.0)) == Effect(2.0, 2.0, 2.0)
    for values in ([1.0, 2.0], [[1.0, math.nan]], np.empty((0, 3))):
        with pytest.raises(ValueError, match="one row per seed"):
            two_way_interval(values)
