"""CIFAR-10 and Fashion-MNIST, downloaded and read by torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..cache import candidates
from ..errors import UserError
from .base import Images
from .images import AugmentedImageSettings, Channels, InMemoryImages, Preparation

if TYPE_CHECKING:
    import torch


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
        train, evaluation = self._read(train=True), self._read(train=False)
        plain = Preparation(self.image_size, self.mean, self.std)
        augmented = Preparation(self.image_size, self.mean, self.std, self.augment, seed)
        return Images(
            InMemoryImages(*self.to_pixels(train), augmented),
            InMemoryImages(*self.to_pixels(evaluation), plain),
            tuple(train.classes),
            self.image_size,
        )

    def to_pixels(self, dataset: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The set's images, uint8 ``[n, channels, height, width]``, and its labels, int64 ``[n]``."""
        raise NotImplementedError

    def _read(self, train: bool) -> Any:
        import torchvision

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


class CIFAR10(TorchvisionSettings):
    """CIFAR-10: 60,000 colour images, 32 x 32, of ten kinds of things; a download of 170 MB."""

    paper = "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images"
    dataset = "CIFAR10"
    folder = "cifar-10-batches-py"
    # Over the pixels of all training images, in [0, 1].
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)

    name: Literal["cifar10"] = "cifar10"
    root: str = "cifar10"

    def to_pixels(self, dataset: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The images unchanged."""
        import torch

        return torch.from_numpy(dataset.data).movedim(3, 1).contiguous(), torch.tensor(dataset.targets)


class FashionMNIST(TorchvisionSettings):
    """Fashion-MNIST: 70,000 grey images of ten kinds of clothes, bordered to 32 x 32; a download of 30 MB."""

    paper = "Xiao, Rasul, Vollgraf 2017, Fashion-MNIST"
    dataset = "FashionMNIST"
    folder = "FashionMNIST/raw"
    # Over the pixels of all training images without their border, in [0, 1].
    mean = (0.2860, 0.2860, 0.2860)
    std = (0.3530, 0.3530, 0.3530)

    name: Literal["fashion_mnist"] = "fashion_mnist"
    root: str = "fashion_mnist"

    def to_pixels(self, dataset: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The 28 x 28 images with a black border of two pixels."""
        from torch.nn.functional import pad

        return pad(dataset.data[:, None], (2, 2, 2, 2)), dataset.targets
