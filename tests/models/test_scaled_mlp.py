"""The perceptron with a contrast: the knob scales the layers' curvatures as it says, and moves nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from whyadam.hessian import HessianOperator, exact_spectrum
from whyadam.models import MODELS, Head

HEAD = Head("classification", 4, 2)
CONTRAST = 3.0
EXPONENTS = [-1.0, 0.0, 1.0]


def build(contrast: float, sharpest: str = "last") -> nn.Module:
    torch.manual_seed(0)
    settings = {"hidden": (6, 5), "contrast": contrast, "sharpest": sharpest}
    return MODELS["scaled_mlp"].model_validate(settings).build(HEAD).double()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(20, 3, 2, 2, generator=generator, dtype=torch.float64)
    return images, torch.randint(4, (20,), generator=generator)


def weights(model: nn.Module) -> list[Tensor]:
    """What the layers compute with: factor times parameter."""
    return [layer.factor * layer.weight.detach() for layer in model if hasattr(layer, "factor")]


def summed_loss(model: nn.Module, given: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
    return cross_entropy(model(given[0]), given[1], reduction="sum"), len(given[1])


@pytest.mark.parametrize("sharpest", ["last", "first"])
def test_the_function_at_the_start_does_not_depend_on_the_contrast(sharpest: str) -> None:
    images, _ = batch()
    torch.testing.assert_close(build(CONTRAST, sharpest)(images), build(1.0)(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sharpest", ["last", "first"])
def test_gradients_and_block_spectra_scale_as_they_should(sharpest: str) -> None:
    """Gradients with contrast^s, eigenvalues with contrast^2s, each layer with its own s."""
    exponents = EXPONENTS if sharpest == "last" else EXPONENTS[::-1]
    plain, scaled = build(1.0), build(CONTRAST, sharpest)
    for (name, _), exponent in zip(plain.named_parameters(), exponents, strict=True):
        one, other = (HessianOperator(model, summed_loss, [batch()], name) for model in (plain, scaled))
        torch.testing.assert_close(other.gradient(), CONTRAST**exponent * one.gradient(), rtol=1e-4, atol=1e-6)
        spectra = [exact_spectrum(operator.matmat, operator.size).nodes for operator in (one, other)]
        torch.testing.assert_close(spectra[1], CONTRAST ** (2 * exponent) * spectra[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("rule", "power"), [("SGD", 2), ("Adam", 1)])
def test_a_step_is_that_of_the_plain_network_with_a_rate_for_each_layer(rule: str, power: int) -> None:
    """SGD moves a layer's weights as with lr · contrast^2s, Adam as with lr · contrast^s."""
    plain, scaled = build(1.0), build(CONTRAST)
    options = {"eps": 1e-12} if rule == "Adam" else {"momentum": 0.9}
    layers = [
        {"params": [parameter], "lr": 0.01 * CONTRAST ** (power * exponent)}
        for parameter, exponent in zip(plain.parameters(), EXPONENTS, strict=True)
    ]
    optimizers = [
        getattr(torch.optim, rule)(layers, **options),
        getattr(torch.optim, rule)(scaled.parameters(), lr=0.01, **options),
    ]
    for _ in range(5):
        for model, optimizer in zip((plain, scaled), optimizers, strict=True):
            optimizer.zero_grad()
            cross_entropy(model(batch()[0]), batch()[1]).backward()
            optimizer.step()
    for one, other in zip(weights(plain), weights(scaled), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


def test_one_layer_alone_has_no_contrast() -> None:
    model = MODELS["scaled_mlp"].model_validate({"hidden": (), "contrast": 9.0}).build(HEAD)
    assert [float(layer.factor) for layer in model if hasattr(layer, "factor")] == [1.0]


def test_a_contrast_below_one_is_refused() -> None:
    """It would swap the first and the last layer, which ``sharpest`` does."""
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        MODELS["scaled_mlp"].model_validate({"contrast": 0.5})
