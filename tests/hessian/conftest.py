"""Tiny models of every family in float64, and dense Hessians to hold products against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

CLASSES, VOCABULARY, LENGTH, SIDE = 3, 5, 4, 8

Batch = tuple[Tensor, Tensor]


def build_mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 3), nn.Tanh(), nn.Linear(3, CLASSES))


def build_resnet() -> nn.Module:
    from torchvision.models.resnet import BasicBlock, conv1x1

    shorter = nn.Sequential(conv1x1(2, 3, stride=2), nn.BatchNorm2d(3))
    stages = [BasicBlock(2, 2), BasicBlock(2, 3, stride=2, downsample=shorter)]
    stem = [nn.Conv2d(3, 2, 3, stride=2), nn.BatchNorm2d(2), nn.Softplus()]
    return nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))


def build_vgg() -> nn.Module:
    from torchvision.models.vgg import make_layers

    return nn.Sequential(make_layers([2, "M", 3, "M"]), nn.Flatten(), nn.Dropout(), nn.Linear(12, CLASSES))


def build_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    model = VisionTransformer(SIDE, 4, 1, 2, 4, 6, dropout=0.1, num_classes=CLASSES)
    # Torchvision starts the classifier at zero, where every other block's Hessian is zero.
    nn.init.normal_(model.heads.head.weight)
    return model


def build_gpt2(attention: str = "eager") -> nn.Module:
    from transformers import AutoModelForCausalLM, GPT2Config

    sizes = {"n_layer": 2, "n_embd": 4, "n_head": 2, "n_positions": LENGTH, "vocab_size": VOCABULARY}
    config = GPT2Config(**sizes, bos_token_id=None, eos_token_id=None, use_cache=False, initializer_range=0.3)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)


def build_bert(attention: str = "eager") -> nn.Module:
    from transformers import AutoModelForMaskedLM, BertConfig

    sizes = {"num_hidden_layers": 1, "hidden_size": 4, "num_attention_heads": 2, "intermediate_size": 6}
    sizes |= {"vocab_size": VOCABULARY, "max_position_embeddings": LENGTH}
    config = BertConfig(**sizes, pad_token_id=None, initializer_range=0.3)
    return AutoModelForMaskedLM.from_config(config, attn_implementation=attention)


VISION = {"mlp": build_mlp, "resnet": build_resnet, "vgg": build_vgg, "vit": build_vit}
LANGUAGE = {"gpt2": build_gpt2, "bert": build_bert}


def loss_fn(model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
    """Summed cross-entropy of images' classes or of every token's label, and how many there are."""
    inputs, labels = batch
    output = model(inputs) if inputs.is_floating_point() else model(input_ids=inputs, attention_mask=None).logits
    return cross_entropy(output.flatten(0, -2), labels.flatten(), reduction="sum"), labels.numel()


def plain_layer_norm(x: Tensor, shape: tuple[int, ...], weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Layer normalisation in elementary operations.

    torch.func differentiates the kernel's derivative wrongly (pytorch issue 196700): its dense Hessians are asymmetric
    between weight and input. Double backward has it right, also over several vectors at once.
    """
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


@dataclass(frozen=True)
class Case:
    """A tiny model with batches of unequal size."""

    model: nn.Module
    batches: list[Batch]

    def dense(self) -> Tensor:
        """The Hessian of the mean loss by torch.func, parameters in the order of named_parameters."""
        parameters = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        shapes = [parameter.shape for parameter in parameters.values()]

        def mean_loss(vector: Tensor) -> Tensor:
            slices = vector.split([shape.numel() for shape in shapes])
            values = {name: part.view(shape) for name, part, shape in zip(parameters, slices, shapes, strict=True)}
            losses, counts = zip(*(self._loss(values, batch) for batch in self.batches), strict=True)
            return sum(losses) / sum(counts)

        self.model.eval()
        with sdpa_kernel(SDPBackend.MATH), mock.patch("torch.nn.functional.layer_norm", plain_layer_norm):
            return hessian(mean_loss)(torch.cat([parameter.flatten() for parameter in parameters.values()]))

    def _loss(self, values: dict[str, Tensor], batch: Batch) -> tuple[Tensor, int]:
        return loss_fn(lambda *args, **kwargs: functional_call(self.model, values, args, kwargs), batch)


def make_case(name: str, **options: Any) -> Case:
    torch.manual_seed(0)
    model = {**VISION, **LANGUAGE}[name](**options).double()
    sizes = (3, 1)
    if name in VISION:
        batches = [(torch.randn(n, 3, SIDE, SIDE, dtype=torch.float64), torch.randint(CLASSES, (n,))) for n in sizes]
    else:
        batches = [tuple(torch.randint(VOCABULARY, (2, n, LENGTH))) for n in sizes]
    return Case(model, batches)


@pytest.fixture(params=[*VISION, *LANGUAGE])
def case(request: pytest.FixtureRequest) -> Case:
    """Each family in turn."""
    return make_case(request.param)


@pytest.fixture
def case_named() -> Callable[..., Case]:
    """The family of a name."""
    return make_case


@pytest.fixture
def loss() -> Callable[[nn.Module, Batch], tuple[Tensor, int]]:
    """The loss that all cases share."""
    return loss_fn


@pytest.fixture
def symmetric() -> Callable[[Tensor], Tensor]:
    """A function of eigenvalues: a dense symmetric matrix that has them."""

    def rotate(eigenvalues: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(5)
        size = len(eigenvalues)
        vectors = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
        return vectors * eigenvalues.double() @ vectors.T

    return rotate
