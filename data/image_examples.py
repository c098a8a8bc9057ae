"""Labelled images as batches, from memory or from files."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import UserError
from .augmentation import crop_flip, fit, resized_crop
from .images import Augmentation, Channels
from .settings import Key


class Preparation:
    """From pixels to what a model sees: size, augmentation, three channels, normalisation.

    Args:
        image_size: height and width of the result.
        mean: of each channel, in [0, 1].
        std: of each channel.
        augment: what is changed at random.
        seed: the experiment's seed, for that.
    """

    def __init__(
        self, image_size: int, mean: Channels, std: Channels, augment: Augmentation = "none", seed: int = 0
    ) -> None:
        self._image_size = image_size
        self._mean = torch.tensor(mean).view(3, 1, 1)
        self._std = torch.tensor(std).view(3, 1, 1)
        self._augment = augment
        self._seed = seed

    def fit(self, images: Sequence[Tensor] | Tensor) -> Tensor:
        """All images at the size of the result, uint8 ``[n, channels, size, size]``."""
        size = (self._image_size, self._image_size)
        if isinstance(images, Tensor) and images.shape[-2:] == size:
            return images
        return torch.stack([fit(image, self._image_size) for image in images])

    def __call__(self, images: Sequence[Tensor] | Tensor, keys: Sequence[Key]) -> Tensor:
        """The model's input, float32 ``[n, 3, size, size]``.

        Args:
            images: uint8, each ``[1 or 3, height, width]``.
            keys: of the same images.
        """
        if self._augment == "resized_crop":
            pairs = zip(images, keys, strict=True)
            pixels = torch.stack([resized_crop(image, self._image_size, self._seed, key) for image, key in pairs])
        else:
            pixels = self.fit(images)
        if self._augment == "crop_flip":
            pixels = crop_flip(pixels, self._seed, keys)
        return (pixels.expand(-1, 3, -1, -1) / 255 - self._mean) / self._std


class InMemoryImages:
    """Images that are kept decoded.

    Args:
        pixels: uint8 ``[n, 1 or 3, height, width]``.
        labels: int64 ``[n]``.
        preparation: what is done to a batch of them.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, preparation: Preparation) -> None:
        self._pixels = pixels
        self._labels = labels
        self._preparation = preparation

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """``images``, float32 ``[len(keys), 3, size, size]``, and ``labels``, int64 ``[len(keys)]``."""
        indices = torch.tensor([index for _, index in keys])
        return {"images": self._preparation(self._pixels[indices], keys), "labels": self._labels[indices]}


class ImageFiles:
    """Images that are decoded each time they are needed.

    Args:
        files: the image files.
        labels: int64 ``[len(files)]``.
        preparation: what is done to a batch of them.
    """

    def __init__(self, files: Sequence[str], labels: Tensor, preparation: Preparation) -> None:
        self._files = files
        self._labels = labels
        self._preparation = preparation

    def __len__(self) -> int:
        return len(self._files)

    def batch(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """``images``, float32 ``[len(keys), 3, size, size]``, and ``labels``, int64 ``[len(keys)]``.

        Raises:
            UserError: a file is damaged; the message names it.
        """
        indices = [index for _, index in keys]
        images = [read_image(self._files[index]) for index in indices]
        return {"images": self._preparation(images, keys), "labels": self._labels[indices]}

    def in_memory(self) -> InMemoryImages:
        """The same images, all decoded now and kept at the size of the result."""
        pixels = torch.stack([self._preparation.fit([read_image(file)])[0] for file in self._files])
        return InMemoryImages(pixels, self._labels, self._preparation)


def read_image(file: str) -> Tensor:
    """The pixels of an image file, uint8 ``[3, height, width]``.

    Raises:
        UserError: the file is damaged or no image; the message names it.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(file) as image:
            pixels = np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"data.path: cannot read the image {file}: {reason}") from error
    return torch.from_numpy(pixels).movedim(2, 0)
