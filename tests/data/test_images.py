"""Augmentation: by key alone, and held against literal twins and torchvision."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2 as vision
from whyadam.data.images import Augmentation, InMemoryImages, Preparation, crop_flip, fit, resized_crop
from whyadam.errors import UserError
from whyadam.seeds import derive_seed

KEYS = [(epoch, index) for epoch in range(3) for index in range(8)]


@pytest.fixture
def pixels() -> Tensor:
    return torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def examples(pixels: Tensor, augment: Augmentation, seed: int = 0, size: int = 16) -> InMemoryImages:
    preparation = Preparation(size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), augment, seed)
    return InMemoryImages(pixels, torch.arange(len(pixels)), preparation)


def test_crop_flip_is_pad_crop_and_flip_image_by_image(pixels: Tensor) -> None:
    """The twin: draw the offsets of each key, cut a plain window, mirror it."""
    keys = [(2, index) for index in range(8)]
    changed = crop_flip(pixels, seed=5, keys=keys)
    for image, result, key in zip(pixels, changed, keys, strict=True):
        draw = random.Random(derive_seed(5, "augment", *key))
        top, left, mirrored = draw.randint(0, 4), draw.randint(0, 4), draw.random() < 0.5
        ground = torch.zeros(3, 20, 20, dtype=torch.uint8)
        ground[:, 2:18, 2:18] = image
        window = ground[:, top : top + 16, left : left + 16]
        assert torch.equal(result, window.flip(2) if mirrored else window)


@pytest.mark.parametrize("augment", ["crop_flip", "resized_crop"])
def test_what_a_key_gives_depends_on_nothing_else(pixels: Tensor, augment: Augmentation) -> None:
    """Neither on its neighbours in the batch, nor on what was drawn before, nor on the global stream."""
    together = examples(pixels, augment).batch(KEYS)["images"]
    torch.manual_seed(1)
    random.seed(1)
    alone = [examples(pixels, augment).batch([key])["images"] for key in reversed(KEYS)]
    assert torch.equal(torch.cat(alone[::-1]), together)


@pytest.mark.parametrize("augment", ["crop_flip", "resized_crop"])
def test_epochs_and_seeds_differ(pixels: Tensor, augment: Augmentation) -> None:
    keys = [(0, index) for index in range(8)]
    first = examples(pixels, augment).batch(keys)["images"]
    assert not torch.equal(first, examples(pixels, augment).batch([(1, index) for _, index in keys])["images"])
    assert not torch.equal(first, examples(pixels, augment, seed=1).batch(keys)["images"])


def test_half_of_the_images_are_mirrored_and_all_offsets_occur() -> None:
    ramp = torch.arange(100, 132, dtype=torch.uint8).expand(1, 1, 32, 32)
    changed = crop_flip(ramp.expand(2000, -1, -1, -1), seed=0, keys=[(0, index) for index in range(2000)])
    middle = changed[:, 0, 16, 8:24].int()
    steps = middle.diff(dim=1)[:, 0]
    assert set(steps.tolist()) == {1, -1}
    assert abs((steps < 0).float().mean() - 0.5) < 0.04
    assert set((middle[steps > 0, 0] - 108).tolist()) == set(range(-4, 5))


def test_resized_crop_draws_parts_of_all_areas_within_the_image() -> None:
    """On a picture of its own coordinates the result shows where the part was."""
    size = 200
    line = torch.arange(size, dtype=torch.uint8)
    image = torch.stack([line[:, None].expand(size, size), line.expand(size, size)])
    areas, aspects = [], []
    for index in range(300):
        part = resized_crop(image, 64, seed=0, key=(0, index)).float()
        height, width = (part[axis].amax() - part[axis].amin() for axis in (0, 1))
        areas.append(float(height * width) / size**2)
        aspects.append(float(width / height))
    assert 0.05 < min(areas) < 0.15
    assert 0.85 < max(areas) <= 1
    assert 0.65 < min(aspects) < 0.85
    assert 1.2 < max(aspects) < 1.5


def test_resized_crop_of_a_narrow_image_falls_back_to_the_middle() -> None:
    image = torch.full((3, 400, 8), 7, dtype=torch.uint8)
    assert torch.equal(resized_crop(image, 16, seed=0, key=(0, 0)), torch.full((3, 16, 16), 7, dtype=torch.uint8))


@pytest.mark.parametrize("shape", [(300, 400), (500, 257)])
def test_large_images_are_fitted_as_is_usual_on_imagenet(shape: tuple[int, int]) -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8))
    usual = vision.Compose([vision.Resize(256, antialias=True), vision.CenterCrop(224)])
    assert torch.equal(fit(image, 224), usual(image))


def test_images_of_the_right_size_are_left_alone_and_small_ones_enlarged(pixels: Tensor) -> None:
    assert torch.equal(fit(pixels[0], 16), pixels[0])
    assert torch.equal(fit(pixels[0], 32), vision.functional.resize(pixels[0], [32, 32], antialias=True))


def test_nothing_is_changed_without_augmentation(pixels: Tensor) -> None:
    images = examples(pixels, "none").batch([(0, 3), (4, 3)])["images"]
    assert torch.equal(images[0], images[1])
    torch.testing.assert_close(images[0] * 255, pixels[3].float())


def test_grey_images_get_three_equal_channels_when_augmented(pixels: Tensor) -> None:
    images = examples(pixels[:, :1], "crop_flip").batch(KEYS)["images"]
    assert images.shape == (len(KEYS), 3, 16, 16)
    assert torch.equal(images[:, 0], images[:, 2])


def test_a_file_is_decoded_as_pillow_does(tmp_path: Path) -> None:
    from whyadam.data.images import read_image

    file = tmp_path / "a.png"
    colours = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(colours).save(file)
    assert np.array_equal(read_image(str(file)).movedim(0, 2).numpy(), colours)


def prepared(pixels: Tensor, augment: Augmentation = "none", size: int = 16) -> Tensor:
    examples = InMemoryImages(pixels, torch.zeros(len(pixels)), Preparation(size, (0.5,) * 3, (0.25,) * 3, augment))
    return examples.batch([(0, index) for index in range(len(pixels))])["images"]


@pytest.mark.parametrize("augment", ["none", "crop_flip", "resized_crop"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floats_in_0_to_1_are_not_divided_by_255_again(
    pixels: Tensor, augment: Augmentation, dtype: torch.dtype
) -> None:
    for size in (16, 32):
        floats = prepared(pixels.to(dtype) / 255, augment, size)
        # In uint8 a resized image is rounded to whole levels, by rows and by columns.
        tolerance = 1e-6 if size == 16 and augment != "resized_crop" else 1.01 / 255 / 0.25
        torch.testing.assert_close(floats.float(), prepared(pixels, augment, size), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pixels: pixels.float(), r"pixels are floats from 0 to 255; should be in \[0, 1\]"),
        (lambda pixels: pixels / 255 - 0.5, r"pixels are floats from -0.5 to 0.5"),
        (lambda pixels: pixels / 255 * torch.nan, r"pixels are floats from nan to nan"),
        (lambda pixels: pixels.numpy(), "pixels and labels are ndarray and Tensor, not tensors"),
        (lambda pixels: pixels.to(torch.int16), r"pixels are torch.int16; should be uint8 in 0 to 255"),
        (lambda pixels: pixels[:, [0, 1, 2, 0]], r"images of shape \[8, 4, 16, 16\] with 8 labels"),
        (lambda pixels: pixels[:, 0], r"images of shape \[8, 16, 16\]"),
        (lambda pixels: pixels[:7], r"images of shape \[7, 3, 16, 16\] with 8 labels"),
    ],
)
def test_pixels_of_another_form_or_range_are_one_line(
    pixels: Tensor, change: Callable[[Tensor], Tensor], message: str
) -> None:
    with pytest.raises(UserError, match=f"^data: {message}") as caught:
        InMemoryImages(change(pixels), torch.arange(8), Preparation(16, (0.5,) * 3, (0.25,) * 3))
    assert "\n" not in str(caught.value)
