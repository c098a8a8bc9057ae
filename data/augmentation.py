"""Bringing images to a size, and changing them at random by seed, epoch and index."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from ..seeds import derive_seed
from .settings import Key

AREA = (0.08, 1.0)
LOG_ASPECT = (math.log(3 / 4), math.log(4 / 3))


def fit(image: Tensor, size: int) -> Tensor:
    """The image at ``size``, uint8 ``[channels, size, size]``.

    Of an image with a shorter side above ``size``, that side is brought to 8/7 of it and the middle is kept, which for
    224 is the usual way to evaluate on ImageNet; one of exactly the size is left alone.
    """
    from torchvision.transforms.v2.functional import center_crop, resize

    height, width = image.shape[-2:]
    if height == width == size:
        return image
    shorter = size if min(height, width) <= size else round(size * 8 / 7)
    return center_crop(resize(image, [shorter], antialias=True), [size, size])


def crop_flip(images: Tensor, seed: int, keys: Sequence[Key]) -> Tensor:
    """Each image moved by up to an eighth of its size over a black ground, and mirrored half of the time.

    He et al. 2016, section 4.2: 4 pixels for 32.

    Args:
        images: uint8 ``[n, channels, size, size]``.
        seed: the experiment's seed.
        keys: of the same images.
    """
    size = images.shape[-1]
    reach = size // 8
    draws = [_stream(seed, key) for key in keys]
    top, left, mirrored = torch.tensor(
        [(draw.randint(0, 2 * reach), draw.randint(0, 2 * reach), draw.random() < 0.5) for draw in draws]
    ).T[:, :, None]
    line = torch.arange(size)
    rows = top + line
    columns = left + torch.where(mirrored.bool(), line.flip(0), line)
    ground = torch.nn.functional.pad(images, (reach, reach, reach, reach))
    image = torch.arange(len(images))[:, None, None]
    return ground[image, :, rows[:, :, None], columns[:, None, :]].movedim(3, 1)


def resized_crop(image: Tensor, size: int, seed: int, key: Key) -> Tensor:
    """A random part of an image at ``size``, mirrored half of the time, uint8 ``[channels, size, size]``.

    Szegedy et al. 2015, section 6: 8 % to 100 % of the area, sides as 3 : 4 to 4 : 3. A part that does not fit into
    the image is drawn again, up to ten times; then it is the middle.
    """
    from torchvision.transforms.v2.functional import horizontal_flip
    from torchvision.transforms.v2.functional import resized_crop as crop_and_resize

    draw = _stream(seed, key)
    height, width = image.shape[-2:]
    for _ in range(10):
        area = height * width * draw.uniform(*AREA)
        aspect = math.exp(draw.uniform(*LOG_ASPECT))
        part_height, part_width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < part_height <= height and 0 < part_width <= width:
            top, left = draw.randint(0, height - part_height), draw.randint(0, width - part_width)
            part = crop_and_resize(image, top, left, part_height, part_width, [size, size], antialias=True)
            break
    else:
        part = fit(image, size)
    return horizontal_flip(part) if draw.random() < 0.5 else part


def _stream(seed: int, key: Key) -> random.Random:
    return random.Random(derive_seed(seed, "augment", *key))
