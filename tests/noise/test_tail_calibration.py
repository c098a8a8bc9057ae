"""How often each verdict is given on noise of a known law: 64 batches of 2,000 coordinates.

The fast tests draw 20 samples per law, the slow ones 200. The parameters of the verdicts were chosen on other seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import levy_stable
from whyadam.noise import tail_report

BATCHES, WIDTH = 64, 2000
FAMILIES = ("norms", "projections", "coordinates", "across_coordinates")
HEAVY = {"heavy", "infinite_variance"}

Draw = Callable[[np.random.Generator, int], np.ndarray]


def unequal_scales(generator: np.random.Generator) -> np.ndarray:
    """Layers from 1e-3 to 1, and log-normal scales within them."""
    return np.repeat(np.geomspace(1e-3, 1, 10), WIDTH // 10) * generator.lognormal(size=WIDTH)


def gaussian(generator: np.random.Generator, batches: int) -> np.ndarray:
    return generator.standard_normal((batches, WIDTH)) * unequal_scales(generator)


def factors(generator: np.random.Generator, batches: int) -> np.ndarray:
    """Five common factors and a diagonal."""
    common = generator.standard_normal((batches, 5)) @ generator.standard_normal((5, WIDTH))
    return common + generator.standard_normal((batches, WIDTH)) * generator.lognormal(size=WIDTH)


def stable(alpha: float) -> Draw:
    return lambda generator, batches: levy_stable.rvs(alpha, 0, size=(batches, WIDTH), random_state=generator)


def stable_unequal(generator: np.random.Generator, batches: int) -> np.ndarray:
    return stable(1.5)(generator, batches) * unequal_scales(generator)


def signed(generator: np.random.Generator, magnitudes: np.ndarray) -> np.ndarray:
    return magnitudes * generator.choice([-1.0, 1.0], magnitudes.shape)


def log_normal(sigma: float) -> Draw:
    return lambda generator, batches: signed(generator, generator.lognormal(0, sigma, (batches, WIDTH)))


def weibull(generator: np.random.Generator, batches: int) -> np.ndarray:
    return signed(generator, generator.weibull(0.4, (batches, WIDTH)))


def mostly_zero(generator: np.random.Generator, batches: int) -> np.ndarray:
    """Each coordinate is zero in 98 % of the batches."""
    return generator.standard_normal((batches, WIDTH)) * (generator.random((batches, WIDTH)) < 0.02)


def large_batches(generator: np.random.Generator, batches: int) -> np.ndarray:
    """5 % of the batches are three times larger."""
    noise = generator.standard_normal((batches, WIDTH))
    noise[generator.choice(batches, round(0.05 * batches), replace=False)] *= 3
    return noise


def few_pareto(generator: np.random.Generator, batches: int) -> np.ndarray:
    """Pareto 1.3 in 1 % of the coordinates, Gaussian in the others."""
    noise = generator.standard_normal((batches, WIDTH))
    chosen = generator.choice(WIDTH, WIDTH // 100, replace=False)
    noise[:, chosen] = signed(generator, generator.pareto(1.3, (batches, len(chosen))) + 1)
    return noise


LAWS: dict[str, Draw] = {
    "gaussian": gaussian,
    "factors": factors,
    "stable 1.5": stable(1.5),
    "stable 1.3": stable(1.3),
    "stable 1.5, unequal scales": stable_unequal,
    "student 3": lambda generator, batches: generator.standard_t(3, (batches, WIDTH)),
    "laplace": lambda generator, batches: generator.laplace(size=(batches, WIDTH)),
    "log-normal 1": log_normal(1),
    "mostly zero": mostly_zero,
    "log-normal 2": log_normal(2),
    "weibull 0.4": weibull,
    "large batches": large_batches,
    "few pareto": few_pareto,
}

USUALLY: dict[str, dict[str, set[str]]] = {
    "stable 1.5": {"norms": {"infinite_variance"}},
    "stable 1.3": {"norms": {"infinite_variance"}},
    "stable 1.5, unequal scales": {"norms": HEAVY},
    "student 3": {"coordinates": {"heavy"}},
    "laplace": {"coordinates": {"heavy"}},
    "log-normal 1": {"coordinates": {"heavy"}, "norms": {"light", "gaussian", "mild"}},
    "mostly zero": {"coordinates": {"heavy"}, "norms": {"light", "gaussian", "mild"}},
    "large batches": {"norms": {"heavy"}},
    "few pareto": {"norms": HEAVY},
}
"""Verdicts of which one should be given in 95 % of the draws."""

RARELY = {
    "gaussian": HEAVY,
    "factors": HEAVY,
    "log-normal 2": {"infinite_variance"},
    "weibull 0.4": {"infinite_variance"},
}
"""Verdicts that may be given on any family in at most 5 % of the draws."""

NEVER = {"student 3", "laplace", "log-normal 1", "mostly zero", "large batches"}
"""Laws of finite variance that are never taken for one without."""


@pytest.fixture(autouse=True)
def _without_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bands of the single statistics take a third of the time, and no verdict on a family rests on them."""
    monkeypatch.setattr("whyadam.noise.report.BAND_SURROGATES", 1)


def verdicts(draw: Draw, number: int, batches: int) -> dict[str, str | None]:
    noise = draw(np.random.default_rng([2026, number]), batches)
    return {row.statistic: row.verdict for row in tail_report(noise, seed=number) if row.statistic in FAMILIES}


def check(law: str, draws: int, exceptions: int) -> None:
    """At most so many exceptions of what should hold in 95 % of the draws."""
    found = [verdicts(LAWS[law], number, BATCHES) for number in range(draws)]
    counts = {family: Counter(sample.get(family) for sample in found) for family in FAMILIES}
    for family, wanted in USUALLY.get(law, {}).items():
        assert sum(counts[family][verdict] for verdict in wanted) >= draws - exceptions, counts
    unwanted = RARELY.get(law, set())
    assert sum(not unwanted.isdisjoint(sample.values()) for sample in found) <= exceptions, counts
    if law in NEVER:
        assert not any("infinite_variance" in sample.values() for sample in found), counts


@pytest.mark.parametrize("law", LAWS)
def test_verdicts_are_right_on_known_laws(law: str) -> None:
    check(law, draws=20, exceptions=2)


@pytest.mark.slow
@pytest.mark.parametrize("law", [law for law in LAWS if "unequal" not in law])
def test_verdicts_are_right_in_95_percent_of_200_draws(law: str) -> None:
    check(law, draws=200, exceptions=10)


@pytest.mark.slow
def test_256_batches_tell_that_few_coordinates_have_no_variance() -> None:
    found = [verdicts(few_pareto, number, 256)["norms"] for number in range(12)]
    assert found.count("infinite_variance") > 6
    assert set(found) <= HEAVY
