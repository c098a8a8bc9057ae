"""CIFAR-10."""

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
