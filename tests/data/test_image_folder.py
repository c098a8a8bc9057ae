"""Folders of images: listing, decoding, limits, and what is said of broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from whyadam.data.base import Examples
from whyadam.data.batches import evaluation_batches
from whyadam.data.image_folder import ImageFolder
from whyadam.errors import UserError

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COUNTS = {"ant": 3, "bee": 1, "cat": 4}


def everything(examples: Examples) -> dict[str, Tensor]:
    return examples.batch([(0, index) for index in range(len(examples))])


@pytest.fixture
def tree(folder: Path) -> Path:
    """Images of unequal sizes; each one's red says its class, its green its number."""
    for part in ("train", "val"):
        for label, (name, count) in enumerate(COUNTS.items()):
            (folder / "tree" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.zeros((20 + number, 16 + label, 3), dtype=np.uint8)
                pixels[:, :, 0], pixels[:, :, 1] = 10 * label, 10 * number
                Image.fromarray(pixels).save(folder / "tree" / part / name / f"{number}.png")
    return folder / "tree"


def settings(**keys: object) -> ImageFolder:
    return ImageFolder(**{"path": "tree", "image_size": 16, "mean": (0, 0, 0), "std": (1, 1, 1), **keys})


def test_every_image_has_its_label_and_the_first_few_are_of_all_classes(tree: Path) -> None:
    images = settings().load(seed=0)
    assert images.classes == ("ant", "bee", "cat")
    batch = everything(images.train)
    assert batch["labels"].tolist() == [0, 1, 2, 0, 2, 0, 2, 2]
    centre = (batch["images"][:, :, 8, 8] * 25.5).round().int()
    assert centre[:, 0].tolist() == batch["labels"].tolist()
    assert centre[:, 1].tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    assert batch["images"].shape == (8, 3, 16, 16)


def test_the_limit_is_by_class(tree: Path) -> None:
    images = settings(limit=2).load(seed=0)
    assert everything(images.train)["labels"].bincount().tolist() == [2, 1, 2]


@pytest.mark.parametrize("augment", ["none", "crop_flip"])
def test_memory_and_disk_give_the_same_images(tree: Path, augment: str) -> None:
    disk = settings(augment=augment).load(seed=3)
    memory = settings(augment=augment, in_memory=True).load(seed=3)
    for kept, read in ((memory.train, disk.train), (memory.evaluation, disk.evaluation)):
        assert torch.equal(everything(kept)["images"], everything(read)["images"])


def test_the_held_out_part_is_never_augmented(tree: Path) -> None:
    augmented = settings(augment="resized_crop").load(seed=0).evaluation
    assert torch.equal(everything(augmented)["images"], everything(settings().load(seed=1).evaluation)["images"])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["truncated", "text"])
def test_a_broken_image_is_one_line_with_its_name(tree: Path, damage: str, workers: int) -> None:
    """From a worker process it would come with that process's traceback."""
    file = tree / "train" / "ant" / "1.png"
    file.write_bytes(file.read_bytes()[:60] if damage == "truncated" else b"no image")
    examples = settings().load(seed=0).train
    with pytest.raises(UserError, match=r"^data.path: cannot read the image .*ant/1.png: ") as caught:
        list(evaluation_batches(examples, batch_size=4, workers=workers))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"ant/1.png"):
        settings(in_memory=True).load(seed=0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"path": "wood"}, r"data.path: no file or folder at .*wood"),
        ({"train_folder": "training"}, r"data.train_folder: no folder .*tree/training"),
        ({"evaluation_folder": "val/ant"}, r"data.evaluation_folder: .*"),
        ({"evaluation_folder": "dev"}, r"data.evaluation_folder: ant is not in both .*train and .*dev"),
        ({"evaluation_folder": "empty"}, r"data.evaluation_folder: Found no valid file for the classes fly"),
    ],
)
def test_wrong_folders_are_one_line(tree: Path, keys: dict[str, str], message: str) -> None:
    (tree / "empty" / "fly").mkdir(parents=True)
    (tree / "dev" / "bee").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tree / "dev" / "bee" / "0.png")
    with pytest.raises(UserError, match=f"^{message}") as caught:
        settings(**keys).load(seed=0)
    assert "\n" not in str(caught.value)


def test_the_size_is_known_without_the_files() -> None:
    assert ImageFolder(path="nowhere").image_size == 224


def test_real_images(data_folder: Path) -> None:
    """CIFAR-10 as slightly lossy JPEG files."""
    images = ImageFolder(path=".", evaluation_folder="test", image_size=32, limit=20, in_memory=True).load(seed=0)
    assert images.classes == CIFAR10_CLASSES
    for examples in (images.train, images.evaluation):
        batch = everything(examples)
        assert batch["images"].shape == (200, 3, 32, 32)
        assert batch["labels"].tolist() == list(range(10)) * 20
        assert 0.5 < batch["images"].std() < 1.5
