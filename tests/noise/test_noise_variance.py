"""The running variance and the noise scale, against enumeration of all batches."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from whyadam.noise import gradient_noise_scale, running_variance

NORMS = np.array([1.0, 2.0, 3.0, 4.0])


def test_running_variance_ends_in_the_mean_square_in_every_order() -> None:
    curves = running_variance(NORMS, orders=5, seed=0)
    assert curves.shape == (5, 4)
    np.testing.assert_allclose(curves[:, -1], 7.5)
    assert len(np.unique(curves[:, 0])) > 1


def test_running_variance_is_the_mean_of_the_first_squares() -> None:
    """Undoing the running mean gives the squares back, each once."""
    curve = running_variance(NORMS, orders=1, seed=3)[0]
    squares = np.diff(curve * np.arange(1, 5), prepend=0)
    np.testing.assert_allclose(np.sort(squares), NORMS**2)


def test_running_variance_depends_on_the_seed_alone() -> None:
    assert np.array_equal(running_variance(NORMS, seed=1), running_variance(NORMS, seed=1))


EXAMPLES = np.random.default_rng(0).normal([2, 0, -1], size=(7, 3))
TRACE = float(EXAMPLES.var(axis=0, ddof=1).sum())
MEAN = EXAMPLES.mean(axis=0)


def test_noise_scale_without_bias_over_all_batches_of_the_reference() -> None:
    """Every batch of 2 out of 7 examples, whose mean is the reference: the trace comes out exactly."""
    batches = [EXAMPLES[list(chosen)].mean(axis=0) for chosen in combinations(range(7), 2)]
    norms = np.linalg.norm(np.array(batches) - MEAN, axis=1)
    estimate = gradient_noise_scale(norms, float(np.linalg.norm(MEAN)), batch_size=2, reference_examples=7)
    assert estimate.trace == pytest.approx(TRACE)
    assert estimate.squared_gradient == pytest.approx(MEAN @ MEAN - TRACE / 7)
    assert estimate.scale == pytest.approx(estimate.trace / estimate.squared_gradient)


@pytest.mark.parametrize("holds", [True, False])
def test_noise_scale_without_bias_over_many_references(holds: bool) -> None:
    """References of 6 examples drawn anew each time; would catch the wrong sign of the correction."""
    generator, gradient, scales = np.random.default_rng(1), np.array([1.0, 0.5, 0.0]), np.array([3.0, 1.0, 0.1])
    examples = gradient + generator.standard_normal((40_000, 10, 3)) * scales
    reference = examples[:, :6].mean(axis=1)
    batch = examples[:, :2].mean(axis=1) if holds else examples[:, 6:8].mean(axis=1)
    norms, reference_norm = np.linalg.norm(batch - reference, axis=1), np.sqrt((reference**2).sum(axis=1).mean())
    estimate = gradient_noise_scale(
        norms, float(reference_norm), batch_size=2, reference_examples=6, reference_holds_batches=holds
    )
    assert estimate.trace == pytest.approx((scales**2).sum(), rel=0.03)
    assert estimate.squared_gradient == pytest.approx(gradient @ gradient, abs=0.06)


@pytest.mark.parametrize("reference_examples", [3, 7])
def test_noise_scale_of_a_finite_population_over_all_batches_and_references(reference_examples: int) -> None:
    """Every reference of 3 (or all 7) of 7 examples with every batch of 2: trace and gradient come out exactly."""
    references = [EXAMPLES[list(chosen)].mean(axis=0) for chosen in combinations(range(7), reference_examples)]
    batches = [EXAMPLES[list(chosen)].mean(axis=0) for chosen in combinations(range(7), 2)]
    norms = [np.linalg.norm(batch - reference) for batch in batches for reference in references]
    reference_norm = np.sqrt(np.mean([reference @ reference for reference in references]))
    estimate = gradient_noise_scale(
        norms, float(reference_norm), batch_size=2, reference_examples=reference_examples, population=7
    )
    assert estimate.trace == pytest.approx(TRACE)
    assert estimate.squared_gradient == pytest.approx(MEAN @ MEAN)


def test_a_gradient_that_cannot_be_told_from_zero_has_an_infinite_scale() -> None:
    estimate = gradient_noise_scale(NORMS, 0.1, batch_size=1, reference_examples=100)
    assert estimate.squared_gradient < 0
    assert estimate.scale == math.inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0, "reference_examples": 9}, "batch_size: 0 must be at least 1"),
        ({"batch_size": 9, "reference_examples": 9}, "reference_examples: 9 must be more than the batch size 9"),
        (
            {"batch_size": 2, "reference_examples": 9, "population": 8},
            "population: 8 must be more than the batch size and at least reference_examples",
        ),
    ],
)
def test_impossible_sizes_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        gradient_noise_scale(NORMS, 1.0, **arguments)


@pytest.mark.parametrize("norms", [[], [[1.0]], [np.nan], [-1.0]])
def test_norms_that_are_none_are_refused(norms: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^norms must "):
        running_variance(norms)
