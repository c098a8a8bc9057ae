"""Each estimator against closed forms, identities, literal twins, scipy, and samples of known laws."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from scipy import stats
from whyadam.noise import tail_index, tail_index_path
from whyadam.noise.estimators import moment
from whyadam.noise.statistics import Series

POSITIVE = ("hill", "moment", "pickands")
SYMMETRIC = ("mcculloch", "ecf", "block")


def pareto_grid(alpha: float, n: int = 400) -> np.ndarray:
    """The i-th largest value is (i/n)^(-1/α)."""
    return (np.arange(1, n + 1) / n) ** (-1 / alpha)


@pytest.mark.parametrize("alpha", [0.5, 1.5, 4.0])
@pytest.mark.parametrize("k", [1, 10, 399])
def test_hill_on_a_pareto_grid_has_a_closed_form(alpha: float, k: int) -> None:
    """Would catch a threshold or a sum that is off by one order statistic."""
    expected = alpha / (math.log(k + 1) - math.lgamma(k + 1) / k)
    assert tail_index(pareto_grid(alpha), "hill", k=k).alpha == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 1.5, 4.0])
@pytest.mark.parametrize("k", [1, 7, 100])
def test_pickands_is_exact_on_a_pareto_grid(alpha: float, k: int) -> None:
    """Would catch order statistics at the wrong places."""
    assert tail_index(pareto_grid(alpha), "pickands", k=k).alpha == pytest.approx(alpha, rel=1e-9)


def test_hill_is_the_maximum_likelihood_fit_of_a_pareto_law() -> None:
    """Another library: scipy's fit of the k largest values with the threshold as scale."""
    sample = np.random.default_rng(0).pareto(2.5, 1000) + 1
    ordered = np.sort(sample)[::-1]
    shape, _, _ = stats.pareto.fit(ordered[:60], floc=0, fscale=ordered[60])
    assert tail_index(sample, "hill", k=60).alpha == pytest.approx(shape, rel=1e-6)


def test_moment_equals_its_formula_written_as_a_loop() -> None:
    """Would catch a slip between M₁² and M₂."""
    sample = np.random.default_rng(1).pareto(1.5, 300) + 1
    largest = sorted(sample, reverse=True)
    excesses = [math.log(value / largest[40]) for value in largest[:40]]
    first, second = sum(excesses) / 40, sum(excess**2 for excess in excesses) / 40
    xi = first + 1 - 0.5 / (1 - first**2 / second)
    assert tail_index(sample, "moment", k=40).alpha == pytest.approx(1 / xi, rel=1e-10)


def test_block_equals_its_formula_written_as_a_loop() -> None:
    """Would catch blocks across each other's ends; what is left over after the last block is not used."""
    sample = np.random.default_rng(2).standard_normal(1000)
    used = sample[:990]
    sums = [sum(used[start : start + 30]) for start in range(0, 990, 30)]
    gain = np.mean(np.log(np.abs(sums))) - np.mean(np.log(np.abs(used)))
    assert tail_index(sample, "block", length=30).alpha == pytest.approx(math.log(30) / gain, rel=1e-10)


def test_block_finds_alpha_one_where_all_values_are_the_same() -> None:
    """Closed form: a block of m equal values sums to m of them, as for a Cauchy law."""
    assert tail_index(np.full(100, -3.0), "block").alpha == pytest.approx(1.0)


def test_ecf_equals_the_regression_on_the_full_characteristic_function() -> None:
    """Literal twin: complex exponentials and numpy's own fit instead of doubled cosines and weights."""
    sample = stats.levy_stable.rvs(1.6, 0, size=4000, random_state=np.random.default_rng(3))
    sample = np.concatenate([sample, -sample])
    quantile = [np.quantile(sample, level, method="hazen") for level in (0.28, 0.72)]
    standardised = sample / ((quantile[1] - quantile[0]) / 1.654)
    points = [0.15, 0.3, 0.6, 1.2]
    function = np.array([np.exp(1j * t * standardised).mean() for t in points])
    slope = np.polyfit(np.log(points), np.log(-np.log(np.abs(function) ** 2)), 1)[0]
    assert tail_index(sample, "ecf").alpha == pytest.approx(slope, rel=1e-9)


@pytest.mark.parametrize(("alpha", "law"), [(2.0, stats.norm), (1.0, stats.cauchy)])
def test_stable_estimators_on_the_quantile_grid_of_a_stable_law(alpha: float, law: stats.rv_continuous) -> None:
    """Closed form: no sampling error, so what is left is the error of table and regression."""
    grid = law.ppf((np.arange(20_000) + 0.5) / 20_000)
    assert tail_index(grid, "mcculloch").alpha == pytest.approx(alpha, abs=0.01)
    assert tail_index(grid, "ecf").alpha == pytest.approx(alpha, abs=0.005)


@pytest.mark.parametrize("probability", [0.01, 0.25, 0.5, 0.9, 0.999])
def test_quantiles_are_those_of_another_library(probability: float) -> None:
    """The Hazen definition of numpy, that of McCulloch's paper; would catch a shift by half a rank."""
    values = np.random.default_rng(4).standard_normal((3, 37))
    expected = np.quantile(values, probability, axis=1, method="hazen")
    np.testing.assert_allclose(Series(values).quantile(probability), expected, rtol=1e-12)


@pytest.mark.parametrize("estimator", [*POSITIVE, *SYMMETRIC])
def test_scale_does_not_matter(estimator: str) -> None:
    """Would catch a constant that has a unit."""
    sample = np.abs(np.random.default_rng(5).standard_t(2, 2000))
    assert tail_index(1e6 * sample, estimator).alpha == pytest.approx(tail_index(sample, estimator).alpha, rel=1e-6)


@pytest.mark.parametrize("estimator", ["pickands", "mcculloch", "ecf"])
def test_location_does_not_matter(estimator: str) -> None:
    sample = np.abs(np.random.default_rng(6).standard_t(2, 2000))
    assert tail_index(sample + 5, estimator).alpha == pytest.approx(tail_index(sample, estimator).alpha, rel=1e-6)


@pytest.mark.parametrize("estimator", ["hill", "moment"])
def test_a_power_of_the_sample_divides_its_index(estimator: str) -> None:
    """A norm of index α has a square of index α/2; exact for Hill, and for moment up to its small correction."""
    sample = np.random.default_rng(7).pareto(3.0, 5000) + 1
    ratio = tail_index(sample, estimator).alpha / tail_index(sample**2, estimator).alpha
    assert ratio == pytest.approx(2, rel=1e-9 if estimator == "hill" else 0.1)


def test_light_tails_have_an_infinite_index() -> None:
    """Where ξ̂ ≤ 0 the answer is α = ∞, not a negative or a huge number."""
    uniform = np.random.default_rng(8).uniform(0, 1, 5000)
    for estimator in ("moment", "pickands"):
        estimate = tail_index(uniform, estimator, k=500)
        assert estimate.alpha == estimate.ci_high == math.inf
        assert estimate.ci_low > 5


def test_a_path_is_one_estimate_for_each_k() -> None:
    sample = np.random.default_rng(9).pareto(1.5, 1000) + 1
    path = tail_index_path(sample, "hill", [10, 50])
    assert path == [tail_index(sample, "hill", k=10), tail_index(sample, "hill", k=50)]


@pytest.mark.parametrize("estimator", POSITIVE)
def test_intervals_of_positive_estimators_hold_the_index_of_pareto_samples(estimator: str) -> None:
    """95 % intervals over 400 samples; would catch a wrong asymptotic variance."""
    generator = np.random.default_rng(10)
    estimates = [tail_index(generator.pareto(1.5, 2000) + 1, estimator, k=200) for _ in range(400)]
    covered = np.mean([estimate.ci_low < 1.5 < estimate.ci_high for estimate in estimates])
    assert 0.91 < covered < 0.98


@pytest.mark.parametrize("estimator", SYMMETRIC)
def test_jackknife_intervals_hold_the_index_of_stable_samples(estimator: str) -> None:
    """95 % intervals over 300 samples of a Cauchy law; would catch a wrong jackknife factor."""
    generator = np.random.default_rng(11)
    estimates = [tail_index(generator.standard_cauchy(1600), estimator) for _ in range(300)]
    covered = np.mean([estimate.ci_low < 1 < estimate.ci_high for estimate in estimates])
    assert 0.90 < covered < 0.99


def test_moment_standard_error_fits_light_tails_too() -> None:
    """Below ξ = 0 the asymptotic variance has another formula; here is the spread over 4,000 uniform samples.

    The largest of a million uniform values are drawn directly: 1 less the first points of a Poisson process.
    """
    statistic = moment(500)
    gaps = np.random.default_rng(12).exponential(1e-6, (4000, 1, 501))
    scores = statistic(Series(1 - gaps.cumsum(axis=-1)))
    assert scores.mean() == pytest.approx(-1, abs=0.02)
    assert statistic.standard_error is not None
    assert scores.std() == pytest.approx(float(statistic.standard_error(np.array(-1.0))), rel=0.05)


@pytest.mark.parametrize(
    ("estimator", "sample", "options", "message"),
    [
        ("hull", np.ones(50), {}, "estimator: 'hull' is not one of hill, moment, pickands, mcculloch, ecf, block"),
        ("hill", -np.ones(50), {}, "hill: samples must be positive, give it norms or magnitudes"),
        ("ecf", np.ones(3), {}, "ecf: 3 samples are too few, at least 20 are needed"),
        ("block", np.r_[np.ones(50), np.nan], {}, "block: samples must be finite, 1 are not"),
        ("hill", np.ones((5, 5)), {}, "hill: samples must have one dimension, not 2"),
        ("hill", np.arange(1, 51), {"k": 50}, "k: 50 must be a whole number in 1..49 for this sample"),
        ("hill", np.arange(1, 51), {"k": 2.5}, "k: 2.5 must be a whole number in 1..49 for this sample"),
        ("ecf", np.arange(50), {"k": 5}, "ecf: unknown option k"),
        (
            "block",
            np.r_[np.zeros(40), np.arange(1, 21)],
            {},
            "block: 40 of the 60 samples are exactly zero, their sums tell no tail index",
        ),
        ("mcculloch", np.ones(50), {}, "mcculloch: too many of the 50 samples are equal or zero to find a tail index"),
        ("moment", np.ones(50), {}, "moment: too many of the 50 samples are equal or zero to find a tail index"),
    ],
)
def test_errors_are_one_line_that_names_the_mistake(
    estimator: str, sample: np.ndarray, options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        tail_index(sample, estimator, **options)


def stable(alpha: float) -> np.ndarray:
    return stats.levy_stable.rvs(alpha, 0, size=100_000, random_state=np.random.default_rng(13))


@pytest.mark.parametrize("alpha", [1.2, 1.5])
@pytest.mark.parametrize("estimator", SYMMETRIC)
def test_stable_estimators_find_the_index_of_stable_samples(alpha: float, estimator: str) -> None:
    assert tail_index(stable(alpha), estimator).alpha == pytest.approx(alpha, abs=0.05)


def test_known_answers_on_other_laws() -> None:
    """What each estimator makes of laws that are not stable, or not in the tail it looks at: 100,000 values each."""
    generator = np.random.default_rng(14)
    gaussian, laplace = generator.standard_normal(100_000), generator.laplace(size=100_000)
    student = generator.standard_t(3, 100_000)
    answers = {
        "mcculloch": [(gaussian, 2.0), (student, 1.54), (laplace, 1.44), (stable(1.8), 1.80)],
        "ecf": [(gaussian, 2.0), (student, 1.64), (laplace, 1.65), (stable(1.8), 1.80)],
        "block": [(gaussian, 2.03), (student, 1.91), (laplace, 1.74), (stable(1.8), 1.76)],
    }
    for estimator, cases in answers.items():
        for sample, alpha in cases:
            assert tail_index(sample, estimator).alpha == pytest.approx(
                alpha, abs=0.12 if estimator == "block" else 0.03
            )


@pytest.mark.parametrize(
    ("law", "at_one_percent", "at_five_percent"),
    [("1.2", 1.21, 1.21), ("1.5", 1.46, 1.60), ("1.8", 2.00, 2.69), ("student", 2.86, 2.62), ("laplace", 5.5, 3.8)],
)
def test_hill_depends_on_k_as_known(law: str, at_one_percent: float, at_five_percent: float) -> None:
    generator = np.random.default_rng(15)
    draws = {"student": lambda: generator.standard_t(3, 100_000), "laplace": lambda: generator.laplace(size=100_000)}
    sample = np.abs(draws[law]() if law in draws else stable(float(law)))
    assert tail_index(sample, "hill", k=1000).alpha == pytest.approx(at_one_percent, rel=0.1)
    assert tail_index(sample, "hill", k=5000).alpha == pytest.approx(at_five_percent, rel=0.05)


def test_pooling_unequal_scales_fools_every_estimator() -> None:
    """Why the report exists: purely Gaussian values of 100 scales, pooled, look like infinite variance."""
    generator = np.random.default_rng(16)
    pooled = generator.standard_normal((100, 1000)) * 10 ** generator.uniform(-3, 0, (100, 1))
    assert tail_index(pooled.ravel(), "mcculloch").alpha < 1.2
    assert tail_index(pooled.ravel(), "ecf").alpha < 1.2
    assert tail_index(np.abs(pooled).ravel(), "hill").alpha < 3
