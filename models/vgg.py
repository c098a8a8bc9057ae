"""VGG networks, built by torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from .base import Head, ModelSettings, Probability

if TYPE_CHECKING:
    from torch import nn

CHANNELS = (64, 128, 256, 512, 512)
"""Width of each stage's convolutions."""

SMALLEST_IMAGE = 32
"""The five poolings leave one pixel of this many."""

SMALLEST_STOCK_IMAGE = 64
"""Below this many pixels the stock head, which is made for 224, must be asked for."""


class VGG16(ModelSettings):
    """VGG16, 138 M parameters, with or without BatchNorm; head for ImageNet or for small images.

    Attributes:
        layers: convolutions in each of the five stages.
        batch_norm: a BatchNorm after each convolution (not in the paper).
        head: ``imagenet`` is the stock head, two hidden layers of 4096 on 7 x 7 features, 120 M parameters; ``small``
            one linear layer on the 512 averaged features, usual for images of 32 pixels. Not given, it is the stock
            head, and small images are refused.
        dropout: probability of a dropped input of each linear layer but the stock head's first.
    """

    paper: ClassVar[str] = "Simonyan and Zisserman 2015, arXiv:1409.1556"
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})

    name: Literal["vgg16"] = "vgg16"
    layers: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (2, 2, 3, 3, 3)
    batch_norm: bool = False
    head: Literal["imagenet", "small"] | None = None
    dropout: Probability = 0.5

    def refuse_images(self, image_size: int) -> str | None:
        """Why images of ``image_size`` pixels do not fit: five poolings leave nothing, or the head is not chosen."""
        if image_size < SMALLEST_IMAGE:
            return f"model.name: {self.name} needs images of at least {SMALLEST_IMAGE} pixels, not {image_size}"
        if self.head is None and image_size < SMALLEST_STOCK_IMAGE:
            return (
                f"model.head: the stock head of {self.name} is made for 224 pixels and the images have {image_size}; "
                "set it to small, or to imagenet to take the stock head knowingly"
            )
        return None

    def _build(self, head: Head) -> nn.Module:
        """Torchvision's network with its initialisation (He et al. 2015, fan out; linear layers of deviation 0.01)."""
        from torchvision.models.vgg import VGG, make_layers

        plan: list[str | int] = []
        for convolutions, channels in zip(self.layers, CHANNELS, strict=True):
            plan += [channels] * convolutions + ["M"]
        features = make_layers(plan, self.batch_norm)
        if self.head == "small":
            return _with_small_head(features, head.outputs, self.dropout)
        return VGG(features, num_classes=head.outputs, dropout=self.dropout)


def _with_small_head(features: nn.Module, outputs: int, dropout: float) -> nn.Module:
    import torch
    from torch import nn
    from torchvision.models.vgg import VGG

    # The stock head is replaced at once: on the meta device its 120 M weights take neither time nor memory, while
    # the features, which exist already, are initialised where they are.
    with torch.device("meta"):
        model = VGG(features)
    linear = nn.Linear(CHANNELS[-1], outputs)
    nn.init.normal_(linear.weight, 0, 0.01)
    nn.init.zeros_(linear.bias)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Sequential(nn.Dropout(dropout), linear)
    return model
