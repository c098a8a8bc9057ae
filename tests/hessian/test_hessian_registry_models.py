"""Products with every architecture of the registry, as configs build it, against finite differences of the gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from whyadam.hessian import HessianOperator, mean_gradient, partition
from whyadam.models import MODELS, Head

VOCABULARY, LENGTH, CLASSES = 9, 5, 4
TRANSFORMER = {"n_layer": 2, "n_embd": 16, "n_head": 2, "dropout": 0.1}
TEXT = {**TRANSFORMER, "n_positions": LENGTH}
STAGES = [1, 1, 1, 1]

CASES: dict[str, tuple[dict[str, Any], Head]] = {
    "mlp": ({"hidden": [7, 6]}, Head("classification", CLASSES, 8)),
    "resnet18": ({"layers": STAGES, "stem": "small"}, Head("classification", CLASSES, 8)),
    "vgg16": ({"layers": [1, *STAGES], "head": "small", "batch_norm": True}, Head("classification", CLASSES, 32)),
    "vit_nano": ({**TRANSFORMER, "patch_size": 4}, Head("classification", CLASSES, 8)),
    "gpt2_nano": (TEXT, Head("causal_lm", VOCABULARY)),
    "bert_nano": (TEXT, Head("masked_lm", VOCABULARY)),
}


def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor | None]) -> tuple[Tensor, int]:
    inputs, labels, mask = batch
    output = model(inputs) if mask is None else model(input_ids=inputs, attention_mask=mask).logits
    return cross_entropy(output.flatten(0, -2), labels.flatten(), reduction="sum"), labels.numel()


def make(name: str) -> tuple[nn.Module, tuple[Tensor, Tensor, Tensor | None]]:
    torch.manual_seed(0)
    options, head = CASES[name]
    model = MODELS[name].model_validate({"name": name, **options}).build(head).double()
    if head.image_size is not None:
        images = torch.randn(3, 3, head.image_size, head.image_size, dtype=torch.float64)
        return model, (images, torch.randint(CLASSES, (3,)), None)
    mask = torch.tensor([[1] * LENGTH, [1] * 3 + [0] * (LENGTH - 3)])
    return model, (torch.randint(VOCABULARY, mask.shape), torch.randint(VOCABULARY, mask.shape), mask)


@pytest.mark.parametrize("name", CASES)
def test_product_is_the_derivative_of_the_gradient(name: str) -> None:
    """Dropout, fused attention, padding masks and BatchNorm as a config has them; nothing is prepared for curvature."""
    model, batch = make(name)
    operator = HessianOperator(model.train(), loss, [batch])
    # So short a step that no ReLU changes its side.
    direction = nn.functional.normalize(torch.randn(operator.size, dtype=torch.float64), dim=0)
    slices = operator.unflatten(direction)
    gradients = []
    for step in (1e-7, -2e-7):
        with torch.no_grad():
            for parameter, part in zip(model.parameters(), slices, strict=True):
                parameter.add_(step * part)
        gradients.append(torch.cat([value.flatten() for value in mean_gradient(model, loss, [batch]).values()]))
    expected = (gradients[0] - gradients[1]) / 2e-7
    found = operator.matvec(direction)
    assert float((found - expected).norm() / expected.norm()) < 1e-4


@pytest.mark.parametrize("name", CASES)
def test_every_block_has_its_share_of_the_full_product(name: str) -> None:
    """A vector that is zero outside a block, times the full Hessian, cut to the block."""
    model, batch = make(name)
    full = HessianOperator(model, loss, [batch])
    names = [part.parameter for part in full.block.slices]
    blocks = partition(model)
    for block in [blocks[0], blocks[len(blocks) // 2], blocks[-2], blocks[-1]]:
        embedded = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
        operator = HessianOperator(model, loss, [batch], block)
        vector = torch.randn(operator.size, dtype=torch.float64)
        for part, values in zip(block.slices, operator.unflatten(vector), strict=True):
            part.of(embedded[part.parameter]).copy_(values)
        product = full.matvec(torch.cat([embedded[name].flatten() for name in names]))
        expected = block.of(dict(zip(names, full.unflatten(product), strict=True)))
        torch.testing.assert_close(operator.matvec(vector), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_no_healthy_model_is_refused_as_asymmetric(name: str) -> None:
    """In single precision; the Hessian of a key's bias is zero, so its products are nothing but rounding."""
    model, (inputs, labels, mask) = make(name)
    batch = (inputs.float() if inputs.is_floating_point() else inputs, labels, mask)
    for block in [None, *partition(model.float())]:
        HessianOperator(model, loss, [batch], block).check_symmetry()
