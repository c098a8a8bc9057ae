"""A tiny version of each architecture, with something to feed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from whyadam.models import MODELS, Head, ModelSettings

VOCABULARY, LENGTH, IMAGES, CLASSES = 30, 6, 3, 5

TRANSFORMER = {"n_layer": 2, "n_embd": 16, "n_head": 2, "dropout": 0.0}
TEXT = {**TRANSFORMER, "n_positions": 8}
STAGES = [1, 1, 1, 1]

TINY: dict[str, tuple[dict[str, Any], Head]] = {
    "mlp": ({"name": "mlp", "hidden": [7, 6]}, Head("classification", CLASSES, 8)),
    "resnet18": ({"name": "resnet18", "layers": STAGES}, Head("classification", CLASSES, 32)),
    "resnet18 small": ({"name": "resnet18", "layers": STAGES, "stem": "small"}, Head("classification", CLASSES, 8)),
    "resnet50": ({"name": "resnet50", "layers": STAGES, "stem": "small"}, Head("classification", CLASSES, 8)),
    "vgg16": (
        {"name": "vgg16", "layers": [1, *STAGES], "head": "small", "dropout": 0.0},
        Head("classification", CLASSES, 32),
    ),
    "vgg16 batch norm": (
        {"name": "vgg16", "layers": [1, *STAGES], "head": "small", "batch_norm": True, "dropout": 0.0},
        Head("classification", CLASSES, 32),
    ),
    "vit": ({"name": "vit_nano", "patch_size": 4, **TRANSFORMER}, Head("classification", CLASSES, 8)),
    "gpt2": ({"name": "gpt2_nano", **TEXT}, Head("causal_lm", VOCABULARY)),
    "bert": ({"name": "bert_nano", **TEXT}, Head("masked_lm", VOCABULARY)),
    "bert answers": ({"name": "bert_nano", **TEXT}, Head("question_answering", VOCABULARY)),
}


@dataclass(frozen=True)
class Tiny:
    """Settings of a tiny model, the head it gets and a batch for it."""

    settings: ModelSettings
    head: Head
    batch: dict[str, Tensor]

    def build(self) -> nn.Module:
        torch.manual_seed(1)
        return self.settings.build(self.head)

    def logits(self, model: nn.Module, batch: dict[str, Tensor] | None = None) -> Tensor:
        """What the model says of the batch, called as a task calls it, with the classes last."""
        batch = self.batch if batch is None else batch
        if "images" in batch:
            return model(batch["images"].to(next(model.parameters()).dtype))
        output = model(**batch)
        if self.head.task == "question_answering":
            return torch.stack([output.start_logits, output.end_logits], dim=-1)
        return output.logits


def make_tiny(name: str, **overrides: Any) -> Tiny:
    values, head = TINY[name]
    settings = MODELS[values["name"]].model_validate({**values, **overrides})
    generator = torch.Generator().manual_seed(0)
    if head.image_size is not None:
        images = torch.randn(IMAGES, 3, head.image_size, head.image_size, generator=generator)
        return Tiny(settings, head, {"images": images})
    ids = torch.randint(VOCABULARY, (3, LENGTH), generator=generator)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] * 2 + [0] * 4])
    return Tiny(settings, head, {"input_ids": ids, "attention_mask": mask})


@pytest.fixture(params=TINY)
def tiny(request: pytest.FixtureRequest) -> Tiny:
    """Each architecture in turn."""
    return make_tiny(request.param)


@pytest.fixture
def tiny_named() -> Callable[..., Tiny]:
    """The architecture of a name, with keys overridden."""
    return make_tiny
