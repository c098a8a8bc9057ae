"""What the sources of images have in common."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from ..errors import UserError
from .base import DataSettings, Images, Kind

Channels = tuple[float, float, float]
Deviation = Annotated[float, Field(gt=0)]
Augmentation = Literal["none", "crop_flip", "resized_crop"]


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


class TorchvisionSettings(AugmentedImageSettings):
    """A set that torchvision downloads and reads.

    Attributes:
        root: the folder that torchvision calls so; it holds ``folder``.
        download: fetch the files if they are not there.
    """

    dataset: ClassVar[str]
    folder: ClassVar[str]
    mean: ClassVar[Channels]
    std: ClassVar[Channels]

    root: str
    download: bool = False

    def load(self, seed: int) -> Images:
        """Both parts in memory.

        Raises:
            UserError: the files are missing or damaged; the message is one line and says where they were looked for.
        """
        from .image_examples import InMemoryImages, Preparation

        train, evaluation = self._read(train=True), self._read(train=False)
        plain = Preparation(self.image_size, self.mean, self.std)
        augmented = Preparation(self.image_size, self.mean, self.std, self.augment, seed)
        return Images(
            InMemoryImages(*self.to_pixels(train), augmented),
            InMemoryImages(*self.to_pixels(evaluation), plain),
            tuple(train.classes),
            self.image_size,
        )

    def to_pixels(self, dataset: Any) -> tuple[Any, Any]:
        """The set's images, uint8 ``[n, channels, height, width]``, and its labels, int64 ``[n]``."""
        raise NotImplementedError

    def _read(self, train: bool) -> Any:
        import torchvision

        from ..cache import candidates

        places = candidates(self.root)
        root = next((place for place in places if (place / self.folder).is_dir()), None)
        if root is None and not self.download:
            tried = " or ".join(map(str, places))
            raise UserError(f"data.root: no folder {self.folder} in {tried}; put it there or set data.download: true")
        root = root or places[0]
        try:
            return getattr(torchvision.datasets, self.dataset)(str(root), train=train, download=self.download)
        except (RuntimeError, OSError, ValueError, AssertionError) as error:
            reason = str(error).strip().partition("\n")[0] or "wrong format"
            raise UserError(f"data.root: cannot read {root / self.folder}: {reason}") from error
