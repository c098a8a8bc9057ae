"""Every config that is shipped loads, and its parts fit: model built, one batch run, at full size."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from whyadam.configs.load import SHIPPED, load_experiment
from whyadam.configs.schema import Experiment
from whyadam.data.base import Images, Text
from whyadam.data.kjv_questions import KJVQuestions

CONFIGS = sorted(SHIPPED.glob("*/*.yaml"))
EMBEDDED = {"kjv", "mnist5k", "quadratic"}


class SomeImages:
    """Two grey images."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return 2

    def batch(self, keys: list[tuple[int, int]]) -> dict[str, torch.Tensor]:
        return {"images": torch.zeros(len(keys), 3, self.size, self.size), "labels": torch.zeros(len(keys)).long()}


def stand_in(experiment: Experiment) -> Any:
    """Data of the form that the config's source gives, for sources that need the network or a disk."""
    data: Any = experiment.data
    tokenizer = SimpleNamespace(
        vocab_size=30522
        if data.kind != "images" and data.tokenizer == "pretrained"
        else getattr(data, "vocab_size", 0),
        mask_id=1,
        pad_id=0,
        separator_id=2,
        classification_id=3,
        special_ids=(0, 1, 2, 3),
    )
    match data.kind:
        case "images":
            images = SomeImages(data.image_size)
            return Images(images, images, tuple(map(str, range(1000))), data.image_size)
        case "text":
            tokens = torch.arange(5 * data.block_size + 1, dtype=torch.int32) % 50 + 5
            return Text(tokens, tokens, tokenizer, data.block_size)  # type: ignore[arg-type]
        case "questions":
            return KJVQuestions(questions=40, evaluation_questions=10, vocab_size=data.vocab_size).load(0)
    raise AssertionError(data.kind)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_shipped_config_fits_together_at_full_size(path: Path) -> None:
    """Large models stand on the meta device: shapes are checked, nothing is computed."""
    experiment = load_experiment(path)
    assert not isinstance(experiment.model, type)
    data = experiment.data.load(0) if experiment.data.name in EMBEDDED else stand_in(experiment)
    task = experiment.task.bind(data, seed=0)
    batch = {name: value.to("meta") for name, value in task.train.batch([(0, 0), (0, 1)]).items()}
    if "input_ids" in batch:
        # Without a mask transformers looks for packed sequences, at values that the meta device has not.
        batch.setdefault("attention_mask", torch.ones_like(batch["input_ids"]))
    settings = experiment.model
    if getattr(settings, "pretrained", None):
        settings = settings.model_copy(update={"pretrained": None})
    with torch.device("meta"):
        model = settings.build(task.head)
    loss, _ = task.loss(model, batch)
    assert loss.shape == ()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_shipped_config_explains_itself(path: Path) -> None:
    """The first line is what `whyadam list configs` prints; the run's name is the file's."""
    text = path.read_text()
    assert text.startswith("# ")
    assert load_experiment(path).name.replace("-", "_") == path.stem
    if path.parent.name == "paper":
        assert '# Marked "ours"' in text
