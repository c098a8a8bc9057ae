"""The coin-flip problem and the least error that any method can have on it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from whyadam.synthetic.trials import CoinFlipProblem, hardest_probability, least_error, strongly_convex_rate


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0])
@pytest.mark.parametrize("steps", [3, 50])
def test_no_other_probability_gives_a_larger_bound(alpha: float, steps: int) -> None:
    s = -strongly_convex_rate(alpha)
    q = np.linspace(1e-6, 1, 200_001)
    assert least_error(alpha, steps) == pytest.approx(float((0.5 * q**s * (1 - q) ** steps).max()), rel=1e-6)


def test_the_best_method_has_the_bound_as_its_error() -> None:
    """It answers 0 until it sees a flip, and then the minimum."""
    alpha, steps, trials = 1.5, 20, 100_000
    problem = CoinFlipProblem(alpha, steps)
    flips = problem.law.draw((trials, steps), torch.Generator().manual_seed(0)).ne(0).any(dim=1)
    errors = torch.where(flips, 0.0, problem.minimum**2 / 2)
    error = float(errors.std()) / math.sqrt(trials)
    assert float(errors.mean()) == pytest.approx(least_error(alpha, steps), abs=4 * error)


def test_gradients_are_unbiased_and_have_unit_moment() -> None:
    alpha, steps = 1.5, 4
    problem = CoinFlipProblem(alpha, steps)
    noise = problem.noise(200_000, torch.Generator().manual_seed(0))
    assert float(noise.mean()) == pytest.approx(0, abs=4 * float(noise.std()) / math.sqrt(200_000))
    q = hardest_probability(alpha, steps)
    assert q * problem.law.gamma**-alpha == pytest.approx(1)
    assert problem.minimum == pytest.approx(q / problem.law.gamma)


def test_the_bound_falls_with_the_power_of_the_guarantee() -> None:
    ratio = least_error(1.5, 200_000) / least_error(1.5, 100_000)
    assert math.log2(ratio) == pytest.approx(strongly_convex_rate(1.5), abs=1e-4)
