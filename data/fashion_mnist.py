"""Fashion-MNIST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from .images import TorchvisionSettings

if TYPE_CHECKING:
    import torch


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
