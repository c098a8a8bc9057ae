"""The report's verdict on noise whose law is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from whyadam.noise import tail_report

BATCHES, WIDTH = 64, 200

Draw = Callable[[np.random.Generator], np.ndarray]


def overall(noise: np.ndarray, seed: int = 0) -> str | None:
    return tail_report(noise, seed=seed)[-1].verdict


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

    Each sample is called otherwise with probability 1/60, so 2 of 8 or more with probability 1/140.
    """
    verdicts = [overall(draw(np.random.default_rng(seed)), seed) for seed in range(8)]
    assert verdicts.count("gaussian") >= 7


def sparse(generator: np.random.Generator) -> np.ndarray:
    """Gradients of which each coordinate is exactly zero in 95 % of the batches, less their mean."""
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
    "draw", [sparse, half_sparse, rare_but_bounded, one_outlier, three_outliers, one_factor_a_batch]
)
def test_finite_variance_that_looks_worse_is_heavy_and_no_more(draw: Draw) -> None:
    verdicts = [overall(draw(np.random.default_rng(seed)), seed) for seed in range(4)]
    assert verdicts == ["heavy"] * 4


@pytest.mark.parametrize("law", ["uniform", "signs"])
def test_bounded_noise_is_light(law: str) -> None:
    generator = np.random.default_rng(12)
    draws = {
        "uniform": lambda: generator.uniform(-1, 1, (BATCHES, WIDTH)),
        "signs": lambda: generator.choice([-1.0, 1.0], (BATCHES, WIDTH)),
    }
    assert [overall(draws[law](), seed) for seed in range(3)] == ["light"] * 3


def test_norms_alone_can_tell_an_infinite_variance() -> None:
    """A stable factor for each batch: only the batches count, so there must be many of them."""
    generator = np.random.default_rng(13)
    factor = np.sqrt(stats.levy_stable.rvs(0.5, 1, size=(600, 1), random_state=generator))
    assert overall(np.random.default_rng(14).standard_normal((600, 30)) * factor) == "infinite_variance"
