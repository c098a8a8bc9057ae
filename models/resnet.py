"""Residual networks, built by torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from .base import Head, ModelSettings

if TYPE_CHECKING:
    from torch import nn


class ResNetSettings(ModelSettings):
    """What all residual networks share.

    Attributes:
        layers: residual blocks in each of the four stages; the widths of the stages are torchvision's.
        stem: ``imagenet`` begins with a 7 x 7 convolution of stride 2 and a max pool, which leave a quarter of the
            image's height and width; ``small``, for images of about 32 pixels, with a 3 x 3 convolution of stride 1
            and no pool (He et al. 2016, section 4.2).
    """

    paper: ClassVar[str] = "He et al. 2016, arXiv:1512.03385"
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    block: ClassVar[Literal["BasicBlock", "Bottleneck"]]

    layers: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]
    stem: Literal["imagenet", "small"] = "imagenet"

    def _build(self, head: Head) -> nn.Module:
        """Torchvision's network with its initialisation (He et al. 2015, fan out)."""
        from torch import nn
        from torchvision.models import resnet

        model = resnet.ResNet(getattr(resnet, self.block), list(self.layers), num_classes=head.outputs)
        if self.stem == "small":
            model.conv1 = nn.Conv2d(3, model.conv1.out_channels, kernel_size=3, stride=1, padding=1, bias=False)
            nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
            model.maxpool = nn.Identity()
        return model


class ResNet18(ResNetSettings):
    """ResNet18, 11.7 M parameters; stem for ImageNet or for small images."""

    block: ClassVar[Literal["BasicBlock", "Bottleneck"]] = "BasicBlock"

    name: Literal["resnet18"] = "resnet18"
    layers: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (2, 2, 2, 2)


class ResNet50(ResNetSettings):
    """ResNet50, 25.6 M parameters; stem for ImageNet or for small images."""

    block: ClassVar[Literal["BasicBlock", "Bottleneck"]] = "Bottleneck"

    name: Literal["resnet50"] = "resnet50"
    layers: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (3, 4, 6, 3)
