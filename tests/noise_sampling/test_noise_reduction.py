"""What is kept of a noise sample, against the whole sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from whyadam.noise.sketch import ALL, Reduction

SHAPES = {"embedding": (500, 6), "weight": (40, 30), "bias": (40,)}
LAYERS = {name: torch.zeros(shape) for name, shape in SHAPES.items()}


def make_noise(samples: int, seed: int = 0) -> list[Tensor]:
    """Layers of very different scale; the embedding is zero but for a few rows."""
    generator = torch.Generator().manual_seed(seed)
    embedding, weight, bias = (torch.randn(samples, *shape, generator=generator) for shape in SHAPES.values())
    embedding[:, 20:] = 0
    return [embedding, 10 * weight, 0.1 * bias]


def flat(noise: list[Tensor]) -> dict[str, np.ndarray]:
    layers = {name: layer.flatten(1).numpy() for name, layer in zip(SHAPES, noise, strict=True)}
    return {**layers, ALL: np.concatenate(list(layers.values()), axis=1)}


def test_norms_and_coordinates_are_those_of_the_whole_sample() -> None:
    noise = make_noise(9)
    reduction = Reduction(LAYERS, coordinates=50, seed=0)
    kept = reduction.reduce([[layer[:4] for layer in noise], [layer[4:] for layer in noise]])
    assert list(kept) == [*SHAPES, ALL]
    for scope, whole in flat(noise).items():
        np.testing.assert_allclose(kept[scope].norms, np.linalg.norm(whole, axis=1), rtol=1e-5)
        np.testing.assert_array_equal(kept[scope].coordinates, whole[:, reduction.positions[scope]])
        assert len(set(reduction.positions[scope])) == min(50, whole.shape[1])


def test_the_sketch_of_a_small_scope_keeps_all_inner_products() -> None:
    noise = make_noise(5)
    sketch = Reduction(LAYERS, 10, seed=0).reduce([noise])["bias"].sketch
    whole = flat(noise)["bias"]
    assert sketch.shape == whole.shape
    np.testing.assert_allclose(sketch @ sketch.T, whole @ whole.T, rtol=1e-5)


@pytest.mark.parametrize("scope", ["embedding", "weight", ALL])
def test_the_sketch_of_a_large_scope_keeps_norms_nearly_and_without_bias(
    scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the choice of signs the mean squared ratio is 1, and its deviation about √(2/width) at most."""
    monkeypatch.setattr("whyadam.noise.sketch.WIDTHS", (101,))
    monkeypatch.setattr("whyadam.noise.sketch.SKETCH_WIDTH", 101)
    noise = make_noise(1)
    whole = float(np.linalg.norm(flat(noise)[scope]) ** 2)
    sketches = [Reduction(LAYERS, 1, seed).reduce([noise])[scope].sketch for seed in range(60)]
    assert {sketch.shape for sketch in sketches} == {(1, 101)}
    ratios = [float((sketch**2).sum()) / whole for sketch in sketches]
    assert np.std(ratios) < 1.5 * (2 / 101) ** 0.5
    assert np.mean(ratios) == pytest.approx(1, abs=4 * np.std(ratios) / 60**0.5)


def test_the_sketch_is_linear() -> None:
    """What the rotations of the Gaussian control rely on."""
    reduction = Reduction(LAYERS, 10, seed=0)
    first, second = make_noise(2, seed=1), make_noise(2, seed=2)
    sum_of_both = [2 * a - b for a, b in zip(first, second, strict=True)]
    ours, one, other = (reduction.reduce([noise]) for noise in (sum_of_both, first, second))
    for scope in ours:
        np.testing.assert_allclose(ours[scope].sketch, 2 * one[scope].sketch - other[scope].sketch, atol=1e-4)


def test_samples_of_unequal_size_get_equal_variance() -> None:
    """A mean over n terms has variance 1/n; the mean of the squared norms is that of the mean size."""
    noise = make_noise(4)
    reduction = Reduction(LAYERS, 10, seed=0)
    equal, plain = reduction.reduce([noise], [7.0] * 4), reduction.reduce([noise])
    np.testing.assert_array_equal(equal[ALL].norms, plain[ALL].norms)
    weighted = reduction.reduce([noise], [1.0, 2.0, 3.0, 2.0])
    for name in ("norms", "coordinates", "sketch"):
        ours, before = getattr(weighted[ALL], name), getattr(plain[ALL], name)
        weights = np.sqrt([0.5, 1, 1.5, 1]).reshape(-1, *[1] * (before.ndim - 1))
        np.testing.assert_allclose(ours, before * weights, rtol=1e-5)


def test_the_layers_share_a_number_of_sums() -> None:
    few = Reduction({"a": torch.zeros(40_000)}, 1, seed=0).reduce([[torch.ones(1, 40_000)]])
    many = Reduction(dict.fromkeys(map(str, range(62)), torch.zeros(3000)), 1, seed=0)
    kept = many.reduce([[torch.ones(1, 3000)] * 62])
    assert (few["a"].sketch.shape[1], few[ALL].sketch.shape[1]) == (32_749, 32_749)
    assert (kept["0"].sketch.shape[1], kept[ALL].sketch.shape[1]) == (2039, 32_749)
    assert (kept["0"].size, kept[ALL].size) == (3000, 62 * 3000)


def test_the_same_seed_keeps_the_same() -> None:
    noise = make_noise(1)
    first, second, other = (Reduction(LAYERS, 10, seed).reduce([noise]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[ALL].sketch, second[ALL].sketch)
    np.testing.assert_array_equal(first[ALL].coordinates, second[ALL].coordinates)
    assert not np.array_equal(first[ALL].coordinates, other[ALL].coordinates)
