"""Labelled images as batches: reading, resizing, augmentation by seed, epoch and index, normalisation.

``torch`` is imported when a set is loaded, so that a config is checked without it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from ..cache import content_digest
from ..errors import UserError
from ..seeds import derive_seed
from .base import DataSettings, Key, Kind
from .digest import tensor_digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

Channels = tuple[float, float, float]
Deviation = Annotated[float, Field(gt=0)]
Augmentation = Literal["none", "crop_flip", "resized_crop"]

AREA = (0.08, 1.0)
LOG_ASPECT = (math.log(3 / 4), math.log(4 / 3))


class ImageSettings(DataSettings):
    """A source of labelled images.

    Attributes:
        image_size: height and width in pixels of what the model sees. Smaller images are enlarged to it; of larger ones
            the shorter side is brought to 8/7 of it (256 for 224) and the middle is kept.
    """

    kind: ClassVar[Kind] = "images"
    image_size: PositiveInt = 32


class AugmentedImageSettings(ImageSettings):
    """A source of labelled images that are changed at random in training, by seed, epoch and image.

    Attributes:
        augment: ``crop_flip``: moved by up to an eighth of the size, mirrored half of the time (He et al. 2016, section
            4.2); ``resized_crop``: a random part of 8 % to 100 % of the area, enlarged, mirrored half of the time
            (Szegedy et al. 2015, section 6).
    """

    augment: Augmentation = "none"


class InMemoryImages:
    """Images that are kept decoded.

    Args:
        pixels: ``[n, 1 or 3, height, width]``, uint8 in 0 … 255 or floats in [0, 1].
        labels: int64 ``[n]``.
        preparation: applied to each batch.

    Raises:
        UserError: the pixels have another form or range; one line.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, preparation: Preparation) -> None:
        _check_pixels(pixels, labels)
        self._pixels = pixels
        self._labels = labels
        self._preparation = preparation

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """``images``, float32 ``[len(keys), 3, size, size]``, and ``labels``, int64 ``[len(keys)]``."""
        import torch

        indices = torch.tensor([index for _, index in keys])
        return {"images": self._preparation(self._pixels[indices], keys), "labels": self._labels[indices]}

    def digest(self) -> str:
        """Of pixels and labels."""
        return content_digest(tensor_digest(self._pixels), tensor_digest(self._labels))


class ImageFiles:
    """Images that are decoded each time they are needed.

    Args:
        files: the image files.
        labels: int64 ``[len(files)]``.
        preparation: applied to each batch.
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
        import torch

        pixels = torch.stack([self._preparation.fit([read_image(file)])[0] for file in self._files])
        return InMemoryImages(pixels, self._labels, self._preparation)


class Preparation:
    """From pixels to a model's input: size, augmentation, three channels, normalisation.

    Args:
        image_size: height and width of the result.
        mean: of each channel, in [0, 1].
        std: of each channel.
        augment: the random changes.
        seed: the experiment's seed, for those.
    """

    def __init__(
        self, image_size: int, mean: Channels, std: Channels, augment: Augmentation = "none", seed: int = 0
    ) -> None:
        import torch

        self._image_size = image_size
        self._mean = torch.tensor(mean).view(3, 1, 1)
        self._std = torch.tensor(std).view(3, 1, 1)
        self._augment = augment
        self._seed = seed

    def fit(self, images: Sequence[Tensor] | Tensor) -> Tensor:
        """All images at the size of the result, uint8 ``[n, channels, size, size]``."""
        import torch

        size = (self._image_size, self._image_size)
        if isinstance(images, torch.Tensor) and images.shape[-2:] == size:
            return images
        return torch.stack([fit(image, self._image_size) for image in images])

    def __call__(self, images: Sequence[Tensor] | Tensor, keys: Sequence[Key]) -> Tensor:
        """The model's input, float32 ``[n, 3, size, size]``.

        Args:
            images: each ``[1 or 3, height, width]``, uint8 in 0 … 255 or floats in [0, 1].
            keys: of the same images.
        """
        import torch

        if self._augment == "resized_crop":
            pairs = zip(images, keys, strict=True)
            pixels = torch.stack([resized_crop(image, self._image_size, self._seed, key) for image, key in pairs])
        else:
            pixels = self.fit(images)
        if self._augment == "crop_flip":
            pixels = crop_flip(pixels, self._seed, keys)
        if not pixels.is_floating_point():
            pixels = pixels / 255
        return (pixels.expand(-1, 3, -1, -1) - self._mean) / self._std


def read_image(file: str) -> Tensor:
    """The pixels of an image file, uint8 ``[3, height, width]``.

    As torchvision's ``ImageFolder`` reads them: the first frame of several, transparency ignored, the rotation that a
    camera has noted (EXIF) not applied. Grey images of more than 8 bits are scaled to 8.

    Raises:
        UserError: the file is damaged, no image, or of numbers without a range; the message names it.
    """
    import numpy as np
    import torch
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode in ("I", "F") or image.mode.startswith("I;"):
                grey = _to_8_bits(image)
                return torch.from_numpy(grey).expand(3, -1, -1)
            pixels = np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"data.path: cannot read the image {file}: {reason}") from error
    return torch.from_numpy(pixels).movedim(2, 0)


def _to_8_bits(image: Image) -> NDArray[np.uint8]:
    """The grey values of an image of more than 8 bits; ``convert`` would make everything above 255 white."""
    import numpy as np

    # PNG and PPM of 16 bits; Pillow has had them in 32.
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        kind = "floats" if image.mode == "F" else "integers of 32 bits"
        raise ValueError(f"its grey values are {kind}, of which no range is known; save them in 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(258, 16)
    largest = 2 ** (bits[0] if isinstance(bits, tuple) else bits) - 1
    values = np.asarray(image).astype(np.float64)
    if tags.get(262) == 0:  # TIFF's "white is zero", which Pillow inverts in 8 bits alone
        values = largest - values
    return (values * (255 / largest)).round().clip(0, 255).astype(np.uint8)


def _check_pixels(pixels: Tensor, labels: Tensor) -> None:
    import torch

    if not (isinstance(pixels, torch.Tensor) and isinstance(labels, torch.Tensor)):
        raise UserError(f"data: pixels and labels are {type(pixels).__name__} and {type(labels).__name__}, not tensors")
    if pixels.dim() != 4 or pixels.shape[1] not in (1, 3) or len(pixels) != len(labels):
        raise UserError(
            f"data: images of shape {list(pixels.shape)} with {len(labels)} labels; "
            "should be [n, 1 or 3, height, width] with n labels"
        )
    if pixels.dtype == torch.uint8:
        return
    if not pixels.is_floating_point():
        raise UserError(f"data: pixels are {pixels.dtype}; should be uint8 in 0 to 255, or floats in [0, 1]")
    if len(pixels) and not (pixels.min() >= 0 and pixels.max() <= 1):
        low, high = pixels.min().item(), pixels.max().item()
        raise UserError(f"data: pixels are floats from {low:.4g} to {high:.4g}; should be in [0, 1], or uint8")


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
    import torch

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
