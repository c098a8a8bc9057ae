"""The synthetic references of noise norms, against the laws they claim to be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from whyadam.noise import effective_dimension, gaussian_norms, stable_norms, tail_index
from whyadam.noise.measure import size_rows
from whyadam.noise.sketch import Reduction

NORMS = np.random.default_rng(0).uniform(2, 6, 1000)


def test_references_have_the_median_of_the_sample() -> None:
    for reference in (gaussian_norms(NORMS, 10), stable_norms(NORMS, 1.5, 50, count=500)):
        assert np.median(reference) == pytest.approx(np.median(NORMS))


@pytest.mark.parametrize("dimension", [1, 7])
def test_gaussian_reference_follows_the_chi_law(dimension: int) -> None:
    reference = gaussian_norms([stats.chi.median(dimension)], dimension, count=5000)
    assert stats.kstest(reference, stats.chi(dimension).cdf).pvalue > 0.001


def test_stable_reference_of_index_two_is_the_gaussian_one() -> None:
    pair = stable_norms(NORMS, 2, 5, count=4000), gaussian_norms(NORMS, 5, count=4000)
    assert stats.ks_2samp(*pair).pvalue > 0.001


def test_stable_reference_has_the_tail_of_its_index() -> None:
    reference = stable_norms(NORMS, 1.0, 20, count=40_000)
    assert tail_index(reference, "hill", k=400).alpha == pytest.approx(1.0, abs=0.15)


def test_stable_reference_is_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many norms as asked for when the vectors do not fit into one piece."""
    monkeypatch.setattr("whyadam.noise.norms.CHUNK_VALUES", 30)
    assert stable_norms(NORMS, 1.5, 10, count=7).shape == (7,)


def test_effective_dimension_of_known_covariances() -> None:
    """(tr Σ)²/tr Σ² = (Σ s²)²/Σ s⁴ for independent coordinates of scales s."""
    generator = np.random.default_rng(1)
    scales = np.array([3.0, 2.0, 1.0, 1.0])
    noise = generator.standard_normal((3000, 4))
    assert effective_dimension(noise) == pytest.approx(4, rel=0.03)
    assert effective_dimension(noise * scales) == pytest.approx((scales**2).sum() ** 2 / (scales**4).sum(), rel=0.05)
    assert effective_dimension(noise[:, :1] * scales) == pytest.approx(1, rel=0.05)


def test_effective_dimension_of_few_batches_is_not_limited_by_their_number() -> None:
    """A sample covariance of 64 batches has rank 63; the estimate must not."""
    noise = np.random.default_rng(2).standard_normal((64, 2000))
    assert effective_dimension(noise) == pytest.approx(2000, rel=0.15)


@pytest.mark.parametrize(("dimension", "tolerance"), [(2000, 0.15), (20_000, 0.15), (40_000, 0.2), (100_000, 0.4)])
def test_effective_dimension_is_not_limited_by_the_sketch(dimension: int, tolerance: float) -> None:
    """Through the public path: one parameter, reduced and described; at most 64 batches and 32,749 sums."""
    generator = torch.Generator().manual_seed(dimension)
    noise = [[torch.randn(16, dimension, generator=generator)] for _ in range(4)]
    reduced = Reduction({"weight": torch.zeros(dimension)}, 10, seed=0).reduce(noise)
    assert list(reduced) == ["weight", "all"]
    for scope in reduced.values():
        assert scope.sketch.shape == (64, min(dimension, 32_749))
        (row,) = [row for row in size_rows(scope, seed=0) if row.statistic == "effective_dimension"]
        assert row.value == pytest.approx(dimension, rel=tolerance)
        assert effective_dimension(scope.sketch) <= scope.sketch.shape[1]


@pytest.mark.parametrize("coordinates", [1500, 5000])
def test_effective_dimension_of_a_narrow_sketch_is_unbiased(coordinates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known dimension of 150: so many equal coordinates at random places, folded by 1,021 sums."""
    monkeypatch.setattr("whyadam.noise.sketch.WIDTHS", (1021,))
    found = []
    for seed in range(20):
        generator = np.random.default_rng([3, seed])
        scales = np.zeros(coordinates)
        scales[generator.choice(coordinates, 150, replace=False)] = 1
        noise = torch.from_numpy(generator.standard_normal((100, coordinates)) * scales)
        layer = Reduction({"layer": torch.zeros(coordinates)}, 1, seed=seed).reduce([[noise]])["layer"]
        assert layer.sketch.shape[1] == 1021
        found.append(effective_dimension(layer.sketch, size=layer.size))
    assert np.mean(found) == pytest.approx(150, rel=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stable_norms(NORMS, 2.5, 3), "alpha: 2.5 is out of range, a stable law has 0 < alpha <= 2"),
        (lambda: gaussian_norms(NORMS, 0), "dimension: 0 must be at least 1"),
        (lambda: gaussian_norms([], 3), "norms must be finite, and at least one is needed to find their scale"),
        (lambda: effective_dimension(np.zeros((4, 3))), "noise is zero, it has no dimension"),
    ],
)
def test_errors_say_what_is_wrong(call, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
