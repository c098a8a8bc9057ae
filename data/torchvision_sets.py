"""CIFAR-10.

Fashion-MNIST.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from .images import TorchvisionSettings

if TYPE_CHECKING:
    import torch


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
        """The images as they are."""
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
