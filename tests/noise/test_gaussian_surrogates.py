"""The control: what a rotation of the batches must keep, and that it makes an exact test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from whyadam.noise import gaussian_surrogates
from whyadam.noise.surrogates import rotations


@pytest.mark.parametrize("batches", [8, 16, 31, 64])
def test_surrogates_keep_means_scales_and_covariances(batches: int) -> None:
    """Would catch a transform that is not orthogonal, or that moves the mean."""
    generator = np.random.default_rng(0)
    noise = generator.standard_cauchy((batches, 5)) * 10.0 ** np.arange(-4, 1) + 1
    surrogates = gaussian_surrogates(noise, 3, seed=1)
    assert surrogates.shape == (3, batches, 5)
    for surrogate in surrogates:
        np.testing.assert_allclose(surrogate.mean(axis=0), noise.mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(surrogate.T @ surrogate, noise.T @ noise, rtol=1e-9)
        assert not np.allclose(surrogate, noise)


def test_the_seed_chooses_the_surrogates() -> None:
    noise = np.random.default_rng(2).standard_normal((20, 3))
    assert np.array_equal(gaussian_surrogates(noise, 2, seed=1), gaussian_surrogates(noise, 2, seed=1))
    assert not np.allclose(gaussian_surrogates(noise, 2, seed=1), gaussian_surrogates(noise, 2, seed=2))
    first, second = gaussian_surrogates(noise, 2, seed=1)
    assert not np.allclose(first, second)


def test_projections_rotate_with_the_coordinates() -> None:
    """Rows are rotated alike, so a surrogate's projection is the projection's surrogate."""
    generator = np.random.default_rng(3)
    noise, direction = generator.standard_normal((16, 6)), generator.standard_normal(6)
    rows = np.vstack([noise.T, noise @ direction])
    for stack in rotations(rows, 4, seed=0):
        np.testing.assert_allclose(stack[:, -1], np.einsum("srb,r->sb", stack[:, :-1], direction), atol=1e-12)


@pytest.mark.parametrize("batches", [16, 200])
def test_surrogates_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """Not on how many are made, on how they are cut into stacks, or on the coordinates beside a coordinate."""
    noise = np.random.default_rng(4).standard_normal((batches, 6))
    everything = gaussian_surrogates(noise, 7, seed=3)
    np.testing.assert_array_equal(gaussian_surrogates(noise, 4, seed=3), everything[:4])
    np.testing.assert_allclose(gaussian_surrogates(noise[:, 2:5], 7, seed=3), everything[..., 2:5], atol=1e-12)
    for values in (1, 2 * noise.size, 5 * noise.size):
        monkeypatch.setattr("whyadam.noise.surrogates.CHUNK_VALUES", values)
        np.testing.assert_array_equal(gaussian_surrogates(noise, 7, seed=3), everything)


def test_matrices_and_fast_transforms_make_the_same_surrogates(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(5).standard_normal((24, 5))
    by_matrices = gaussian_surrogates(noise, 6, seed=1)
    monkeypatch.setattr("whyadam.noise.surrogates.MOST_FOR_MATRICES", 0)
    np.testing.assert_allclose(gaussian_surrogates(noise, 6, seed=1), by_matrices, atol=1e-12)


@pytest.mark.parametrize("law", ["one outlier", "Cauchy", "signs"])
def test_surrogates_of_any_law_are_nearly_gaussian(law: str) -> None:
    """A rotation mixes the batches; would catch one that leaves values where they are."""
    generator = np.random.default_rng(5)
    noise = {
        "one outlier": np.eye(64)[:, :1] * 100,
        "Cauchy": generator.standard_cauchy((64, 1)),
        "signs": generator.choice([-1.0, 1.0], (64, 1)),
    }[law]
    surrogates = gaussian_surrogates(noise - noise.mean(), 400)
    values = (surrogates / surrogates.std(axis=1, keepdims=True)).ravel()
    assert stats.kstest(values, "norm").statistic < 0.02
    assert abs(stats.kurtosis(values)) < 0.2


def test_few_batches_have_many_surrogates() -> None:
    """Flipping signs alone gives 64 at eight batches; a sample that is its own surrogate cannot stand out."""
    noise = np.random.default_rng(7).standard_normal((8, 1))
    surrogates = np.abs(gaussian_surrogates(noise, 300)[..., 0]).round(9)
    assert len(np.unique(surrogates, axis=0)) > 280
    assert not (surrogates == np.abs(noise[:, 0]).round(9)).all(axis=1).any()


@pytest.mark.parametrize("correlated", [False, True])
def test_the_rank_among_surrogates_is_uniform_for_gaussian_noise(correlated: bool) -> None:
    """Exactness at 8 batches: the largest magnitude has each rank among 9 surrogates in a tenth of 1,500 samples.

    Would catch a control that estimates scales better, or worse, than the sample's own were.
    """
    generator = np.random.default_rng(6)
    mixing = np.ones((4, 4)) + 0.1 * np.eye(4) if correlated else np.diag([1e-3, 1e-2, 0.1, 1])
    counts = np.zeros(10)
    for draw in range(1500):
        noise = generator.standard_normal((8, 4)) @ mixing
        everything = np.concatenate([noise[None], gaussian_surrogates(noise, 9, seed=draw)])
        statistic = (np.abs(everything) / everything.std(axis=1, keepdims=True)).max(axis=(1, 2))
        counts[(statistic < statistic[0]).sum()] += 1
    assert stats.chisquare(counts).pvalue > 0.001
