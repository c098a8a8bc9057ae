"""The verdicts: their parts against closed forms and other libraries, the whole on noise whose law is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from scipy import stats
from whyadam.noise import tail_report
from whyadam.noise.report import measure_tail
from whyadam.noise.verdicts import (
    Extremes,
    Tail,
    extremes,
    family_verdict,
    hill_interval,
    holm,
    joint_departures,
    judge_variance,
    log_normal_variation,
)

BATCHES, WIDTH = 64, 200
FAMILIES = ("norms", "projections", "coordinates", "across_coordinates")

Draw = Callable[[np.random.Generator], np.ndarray]


def verdicts(noise: np.ndarray, seed: int = 0) -> Mapping[str, str | None]:
    return {row.statistic: row.verdict for row in tail_report(noise, seed=seed) if row.statistic in FAMILIES}


def correlated(generator: np.random.Generator) -> np.ndarray:
    return generator.standard_normal((BATCHES, 3)) @ generator.standard_normal((3, WIDTH))


def centred(generator: np.random.Generator) -> np.ndarray:
    noise = generator.standard_normal((BATCHES, WIDTH))
    return noise - noise.mean(axis=0)


def offset(generator: np.random.Generator) -> np.ndarray:
    return generator.standard_normal((BATCHES, WIDTH)) + generator.standard_normal(WIDTH)


def few(generator: np.random.Generator) -> np.ndarray:
    return generator.standard_normal((BATCHES, 2))


def short(generator: np.random.Generator) -> np.ndarray:
    return generator.standard_normal((8, WIDTH))


@pytest.mark.parametrize("draw", [correlated, centred, offset, few, short])
def test_gaussian_noise_of_every_form_is_called_gaussian(draw: Draw) -> None:
    """Strong correlation, a reference that is the samples' own mean or another, two coordinates, eight batches.

    Each sample is called otherwise with probability 1/20 at most, so 2 of 8 or more with probability 1/17 at most.
    """
    found = [set(verdicts(draw(np.random.default_rng(seed)), seed).values()) for seed in range(8)]
    assert found.count({"gaussian"}) >= 7


def sparse(generator: np.random.Generator) -> np.ndarray:
    """Gradients of which each coordinate is exactly zero in 95 % of the batches, minus their mean."""
    gradients = generator.standard_normal((BATCHES, WIDTH)) * (generator.random((BATCHES, WIDTH)) < 0.05)
    return gradients - gradients.mean(axis=0)


def half_sparse(generator: np.random.Generator) -> np.ndarray:
    """Occupied with a different probability each: where it is near one half, a median would be a bad scale."""
    occupied = generator.random((BATCHES, WIDTH)) < generator.uniform(0, 1, WIDTH)
    return generator.standard_normal((BATCHES, WIDTH)) * occupied - 1e-3


def rare_but_bounded(generator: np.random.Generator) -> np.ndarray:
    """Rare tokens: a coordinate is a hundred times larger in the few batches that hold its token."""
    probability = 1 / (1 + np.arange(WIDTH) / 20)
    present = generator.random((BATCHES, WIDTH)) < probability
    return generator.standard_normal((BATCHES, WIDTH)) * np.where(present, 1, 0.01)


def one_outlier(generator: np.random.Generator) -> np.ndarray:
    noise = generator.standard_normal((BATCHES, WIDTH))
    noise[5] *= 1e6
    return noise


def three_outliers(generator: np.random.Generator) -> np.ndarray:
    noise = generator.standard_normal((BATCHES, WIDTH))
    noise[:3] *= 10
    return noise


def one_factor_a_batch(generator: np.random.Generator) -> np.ndarray:
    return generator.standard_normal((BATCHES, WIDTH)) / np.sqrt(generator.chisquare(3, (BATCHES, 1)) / 3)


@pytest.mark.parametrize(
    ("draw", "family"),
    [
        (sparse, "coordinates"),
        (half_sparse, "coordinates"),
        (rare_but_bounded, "coordinates"),
        (one_outlier, "norms"),
        (three_outliers, "norms"),
        (one_factor_a_batch, "coordinates"),
    ],
)
def test_finite_variance_that_looks_worse_is_heavy_and_no_more(draw: Draw, family: str) -> None:
    found = [verdicts(draw(np.random.default_rng(seed)), seed) for seed in range(4)]
    assert [sample[family] for sample in found] == ["heavy"] * 4
    assert not any("infinite_variance" in sample.values() for sample in found)


def test_rare_events_are_heavy_in_coordinates_and_not_in_norms() -> None:
    """The two questions have two answers: norms of 200 sparse coordinates are concentrated."""
    assert verdicts(sparse(np.random.default_rng(0)))["norms"] == "mild"


@pytest.mark.parametrize("law", ["uniform", "signs"])
def test_bounded_noise_is_light(law: str) -> None:
    generator = np.random.default_rng(12)
    draws = {
        "uniform": lambda: generator.uniform(-1, 1, (BATCHES, WIDTH)),
        "signs": lambda: generator.choice([-1.0, 1.0], (BATCHES, WIDTH)),
    }
    assert [verdicts(draws[law](), seed)["coordinates"] for seed in range(3)] == ["light"] * 3


def test_extremes_that_come_from_few_batches_are_undecided() -> None:
    """A stable factor for each batch, 64 of them: 200 coordinates hold no more than 64 values do."""
    generator = np.random.default_rng(13)
    factor = np.sqrt(stats.levy_stable.rvs(0.5, 1, size=(BATCHES, 1), random_state=generator))
    rows = {row.statistic: row for row in tail_report(generator.standard_normal((BATCHES, WIDTH)) * factor)}
    assert rows["norms"].verdict == "heavy"
    assert rows["norms/variance"].verdict == "undecided"


def norms_of_factors(factor: np.ndarray, generator: np.random.Generator) -> str:
    """The verdict on the variance from 30 Gaussian coordinates that one factor per batch makes large together."""
    noise = generator.standard_normal((len(factor), 30)) * factor[:, None]
    norms = np.linalg.norm(noise, axis=1)
    ordered = np.sort(norms)[::-1]
    ks = [round(share * len(norms)) for share in (0.05, 0.1, 0.2)]
    own = [hill_interval(1 / np.log(ordered[:k] / ordered[k]).mean(), k) for k in ks]
    found = judge_variance(Tail.of(noise.T), None, own, Tail.of(norms[None], 0.2))
    assert found is not None
    return found.verdict


def test_thousands_of_norms_alone_can_tell_an_infinite_variance() -> None:
    """And do not take log-normal norms, or those of a t law with 3 degrees of freedom, for such."""
    stable, normal, student = [], [], []
    for seed in range(10):
        generator = np.random.default_rng([14, seed])
        levy = stats.levy_stable.rvs(0.5, 1, size=4000, random_state=generator)
        stable.append(norms_of_factors(np.sqrt(levy), generator))
        normal.append(norms_of_factors(generator.lognormal(0, 1.5, 4000), generator))
        student.append(norms_of_factors(1 / np.sqrt(generator.chisquare(3, 4000) / 3), generator))
    assert stable.count("infinite_variance") >= 8
    assert "infinite_variance" not in normal
    assert student == ["finite_variance"] * 10


def test_holm_is_the_adjustment_of_the_paper() -> None:
    """Worked by hand: 0.01·4, then max with 0.02·3, 0.03·2, and 0.5."""
    adjusted = holm({"a": 0.5, "b": 0.01, "c": 0.03, "d": 0.02})
    assert adjusted == pytest.approx({"a": 0.5, "b": 0.04, "c": 0.06, "d": 0.06})
    assert holm({"a": 0.4, "b": 0.9}) == pytest.approx({"a": 0.8, "b": 0.9})


def test_several_scopes_are_compared_with_the_most_extreme_of_their_surrogates() -> None:
    """Two scopes, four surrogates: their maxima are 5, 3, 2 and 6; lightness plays no part here."""
    calm = np.array([9.0, 0, 0, 0, 0])
    first = Extremes(np.array([4.0, 5, 1, 2, 0]), -calm)
    second = Extremes(np.array([7.0, 0, 3, 1, 6]), -calm)
    assert joint_departures([first, second]) == [("heavy", 1.0), ("heavy", pytest.approx(2 * 1 / 5))]
    assert joint_departures([first]) == [("heavy", pytest.approx(2 * 2 / 5))]


def test_layers_of_gaussian_noise_are_called_otherwise_in_one_of_twenty_models() -> None:
    """Of 20 layers each; without a correction nearly every model would have one."""
    called = 0
    for model in range(60):
        generator = np.random.default_rng([15, model])
        scores = generator.standard_normal((20, 3))
        controls = generator.standard_normal((20, 199, 3))
        found = joint_departures([extremes(*layer) for layer in zip(scores, controls, strict=True)])
        called += any(p <= 0.05 for _, p in found)
    assert called <= 8


@pytest.mark.parametrize("share", [0.2, 0.05, 0.01])
def test_the_variation_of_a_log_normal_tail_is_that_of_another_library(share: float) -> None:
    tail = stats.truncnorm(stats.norm.isf(share), np.inf)
    expected = tail.std() / (tail.mean() - stats.norm.isf(share))
    assert log_normal_variation(share) == pytest.approx(expected, rel=1e-6)


def test_the_variation_of_a_sample_is_that_of_its_law() -> None:
    generator = np.random.default_rng(16)
    for draw, expected in (
        (lambda: generator.pareto(1.5, (400, 100)) + 1, 1.0),
        (lambda: generator.lognormal(0, 2, (400, 100)), log_normal_variation(0.05)),
    ):
        value, error = Tail.of(draw().T).variation(2000)
        assert abs(value - expected) < 3 * error
        assert 0.015 < error < 0.05


def test_the_index_of_extremes_has_an_interval_that_holds_it() -> None:
    """95 % intervals over 200 samples of independent values."""
    generator = np.random.default_rng(17)
    held = 0
    for _ in range(200):
        _, low, high = Tail.of(generator.pareto(1.5, (50, 32)) + 1).index(80)
        held += low < 1.5 < high
    assert held / 200 >= 0.92


def test_hill_intervals_hold_the_index_of_pareto_samples() -> None:
    """Three excesses only, where the asymptotic interval would not do."""
    generator = np.random.default_rng(18)
    held = 0
    for _ in range(1000):
        top = np.sort(generator.pareto(2, 60))[::-1] + 1
        low, high = hill_interval(1 / np.log(top[:3] / top[3]).mean(), 3)
        held += low < 2 < high
    assert 0.93 <= held / 1000 <= 0.97


@pytest.mark.parametrize(
    ("family", "side", "p_value", "index_high", "kurtosis_low", "variance", "expected"),
    [
        ("norms", "heavy", 0.06, 1.0, np.nan, "infinite_variance", "gaussian"),
        ("norms", "light", 0.01, 1.0, np.nan, "undecided", "light"),
        ("norms", "heavy", 0.01, 20.0, np.nan, "infinite_variance", "mild"),
        ("norms", "heavy", 0.01, 7.0, np.nan, "undecided", "heavy"),
        ("coordinates", "heavy", 0.01, 7.0, np.nan, "undecided", "mild"),
        ("coordinates", "heavy", 0.01, np.nan, 20.0, "undecided", "heavy"),
        ("coordinates", "heavy", 0.01, np.nan, np.nan, "undecided", "mild"),
        ("norms", "heavy", 0.01, 1.9, np.nan, "finite_variance", "heavy"),
        ("norms", "heavy", 0.01, 1.9, np.nan, "infinite_variance", "infinite_variance"),
    ],
)
def test_a_verdict_needs_a_departure_and_an_effect(
    family: str, side, p_value: float, index_high: float, kurtosis_low: float, variance, expected: str
) -> None:
    found = family_verdict(family, side, p_value, index_high=index_high, kurtosis_low=kurtosis_low, variance=variance)
    assert found == expected


def test_the_number_of_surrogates_sets_the_smallest_p_value() -> None:
    measured = measure_tail(stats.t.rvs(2, size=(BATCHES, WIDTH), random_state=19), surrogates=199)
    assert len(measured.extremes["norms"].heaviest) == 200
    assert joint_departures([measured.extremes["coordinates"]]) == [("heavy", pytest.approx(2 / 200))]
