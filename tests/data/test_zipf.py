"""Zipf's classes: exact numbers of examples, and an exponent that changes nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from whyadam.configs.load import parse_experiment
from whyadam.data import DATA
from whyadam.data.base import Images
from whyadam.data.zipf import class_counts, frequency_groups
from whyadam.training.run import run_experiment


def load(**keys: Any) -> Images:
    small = {"image_size": 2, "classes": 5, "examples": 60, "evaluation_examples": 30}
    return DATA["zipf"].model_validate({**small, **keys}).load(seed=0)


def everything(examples: Any) -> tuple[Tensor, Tensor]:
    batch = examples.batch([(0, index) for index in range(len(examples))])
    return batch["images"], batch["labels"]


@pytest.mark.parametrize(
    ("classes", "exponent", "examples", "counts"),
    [
        (4, 0, 20, [5, 5, 5, 5]),
        (3, 1, 11, [6, 3, 2]),  # 1 : 1/2 : 1/3
        (3, 2, 49, [36, 9, 4]),  # 1 : 1/4 : 1/9
        (3, 0, 10, [4, 3, 3]),  # what is left goes to the most frequent of equals
        (2, 1, 10, [7, 3]),  # 6.67 and 3.33
    ],
)
def test_numbers_of_examples_are_exact(classes: int, exponent: float, examples: int, counts: list[int]) -> None:
    assert class_counts(classes, exponent, examples) == counts


@pytest.mark.parametrize("label_noise", [0.0, 0.4])
@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.5])
def test_labels_have_these_numbers_whatever_the_label_noise(exponent: float, label_noise: float) -> None:
    """Labels drawn anew would make rare classes more frequent."""
    data = load(exponent=exponent, label_noise=label_noise)
    for examples, count in ((data.train, 60), (data.evaluation, 30)):
        assert everything(examples)[1].bincount(minlength=5).tolist() == class_counts(5, exponent, count)


def test_label_noise_changes_the_share_of_labels_that_it_says() -> None:
    """At exponent 0 a shuffled label is another one in (classes − 1)/classes of all cases."""
    clean, noisy = (
        everything(load(classes=20, examples=4000, exponent=0, label_noise=noise, pixel_noise=0).train)
        for noise in (0.0, 0.3)
    )
    pattern_of = {tuple(image.flatten().tolist()): int(label) for image, label in zip(*clean, strict=True)}
    wrong = [pattern_of[tuple(image.flatten().tolist())] != int(label) for image, label in zip(*noisy, strict=True)]
    assert sum(wrong) / len(wrong) == pytest.approx(0.3 * 19 / 20, abs=0.02)


def test_the_exponent_changes_neither_patterns_nor_noise() -> None:
    """Else a comparison over exponents would compare different problems."""

    def patterns(exponent: float) -> dict[int, list[float]]:
        images, labels = everything(load(exponent=exponent, pixel_noise=0).train)
        return {int(label): image.flatten().tolist() for image, label in zip(images, labels, strict=True)}

    assert patterns(0.0) == patterns(1.5)
    spreads = []
    for exponent in (0.0, 1.5):
        images, labels = everything(load(exponent=exponent, examples=3000, classes=3).train)
        spreads += [float(images[labels == k].std(dim=0).mean()) for k in range(3)]
    assert spreads == pytest.approx([spreads[0]] * 6, rel=0.1)


@pytest.mark.parametrize("pixel_noise", [0.0, 0.5, 2.0])
def test_pixels_are_standardised(pixel_noise: float) -> None:
    """So that no learning rate must follow the noise; clipping at four deviations costs almost nothing."""
    images, _ = everything(
        load(classes=400, examples=2000, evaluation_examples=400, exponent=0, pixel_noise=pixel_noise).train
    )
    assert float(images.mean()) == pytest.approx(0, abs=0.05)
    assert float(images.std()) == pytest.approx(1, abs=0.05)


def test_samples_are_different_data_and_seeds_are_not() -> None:
    first, other = (everything(load(sample=sample).train)[0] for sample in (0, 1))
    assert not torch.equal(first, other)
    settings = DATA["zipf"].model_validate({"image_size": 2})
    one, again = (everything(settings.load(seed=seed).train) for seed in (0, 1))
    assert all(torch.equal(*pair) for pair in zip(one, again, strict=True))


def test_training_and_evaluation_share_patterns_but_no_example() -> None:
    data = load(classes=2, exponent=0, pixel_noise=0.1, examples=100, evaluation_examples=100)
    (train, train_labels), (held_out, labels) = everything(data.train), everything(data.evaluation)
    for k in range(2):
        means = [images[own == k].mean(0) for images, own in ((train, train_labels), (held_out, labels))]
        torch.testing.assert_close(*means, rtol=0, atol=0.1)
    assert not (train[:, None] == held_out[None]).flatten(2).all(2).any()


@pytest.mark.parametrize("key", ["examples", "evaluation_examples"])
def test_too_few_examples_are_refused_by_name(key: str) -> None:
    with pytest.raises(ValueError, match=rf"^data\.{key}: 10 examples leave none for the rarest of the 50 classes"):
        load(**{"classes": 50, "examples": 500, "evaluation_examples": 500, "exponent": 1.0, key: 10})


def test_groups_hold_about_equally_many_examples_in_order_of_frequency() -> None:
    counts = class_counts(64, 1.0, 1024)
    groups = frequency_groups(counts, 5)
    assert groups == sorted(groups)
    held = [sum(count for count, group in zip(counts, groups, strict=True) if group == k) for k in range(5)]
    assert all(0.8 * 1024 / 5 < examples < 1.2 * 1024 / 5 for examples in held)


def test_a_class_that_fills_two_groups_leaves_no_gap_in_the_numbers() -> None:
    assert frequency_groups([60, 20, 20], 5) == [0, 1, 2]
    assert frequency_groups([10, 10, 10, 10], 2) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "model",
    [{"name": "mlp", "hidden": []}, {"name": "scaled_mlp", "contrast": 2}, {"name": "vit_nano", "patch_size": 2}],
    ids=lambda model: model["name"],
)
def test_a_config_can_train_on_it(model: dict[str, Any], tmp_path: Path) -> None:
    """The linear model, the perceptron with a contrast and the transformer of the studies, from YAML."""
    config = {
        "name": "zipf",
        "model": model,
        "data": {"name": "zipf", "image_size": 4, "classes": 5, "examples": 40, "evaluation_examples": 20},
        "task": {"name": "classification"},
        "optimizer": {"name": "sgd", "lr": 0.01},
        "training": {"steps": 2, "batch_size": 8, "eval_every": 2, "log_every": 1},
    }
    assert run_experiment(parse_experiment(config, "test"), tmp_path).folder.read_status()["state"] == "done"
