"""Injected noise: its size in each layer, and who shares it."""

from __future__ import annotations

import pytest
import torch
from whyadam.data.noise_laws import AlphaStable, Gaussian, NoiseLaw
from whyadam.synthetic.batched_training import LayerNoise


def gradients(models: int, size: int = 2000) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, size, generator=generator, dtype=torch.float64)
    return {"a": a.expand(models, -1), "b": 100 * b.view(-1, 2).expand(models, -1, -1)}


@pytest.mark.parametrize("law", [Gaussian(), AlphaStable(alpha=1.5)])
def test_median_norm_of_the_noise_is_the_ratio_of_each_layers_gradient(law: NoiseLaw) -> None:
    """Scaled by the norm of all layers together, the small layer would drown."""
    clean = gradients(1, 500)
    noise = LayerNoise(law, ratio=0.5)
    steps = [noise.added(clean, [3], step) for step in range(200)]
    for name, gradient in clean.items():
        ratios = torch.stack([(noisy[name] - gradient).norm() / gradient.norm() for noisy in steps])
        assert float(ratios.median()) == pytest.approx(0.5, rel=0.15)


def test_noise_is_that_of_the_seed_and_the_step() -> None:
    """Runs that are compared must meet the same noise, runs that are averaged must not."""
    noise, clean = LayerNoise(Gaussian(), 1.0), gradients(4)
    first = noise.added(clean, [1, 2], step=0)["a"]
    assert torch.equal(first[:2], first[2:])  # two copies of the two seeds
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first, noise.added(clean, [1, 2], step=0)["a"])
    assert not torch.equal(first, noise.added(clean, [1, 2], step=1)["a"])
    assert torch.equal(first[1], noise.added(gradients(1), [2], step=0)["a"][0])


def test_a_layer_written_in_other_units_has_the_same_noise_in_those_units() -> None:
    """So the perceptron's contrast does not change how noisy its gradients are."""
    noise, clean = LayerNoise(AlphaStable(alpha=1.5), 1.0), gradients(1)
    scaled = {"a": 8 * clean["a"], "b": clean["b"] / 8}
    one, other = noise.added(clean, [0], step=0), noise.added(scaled, [0], step=0)
    torch.testing.assert_close(other["a"], 8 * one["a"])
    torch.testing.assert_close(other["b"], one["b"] / 8)
