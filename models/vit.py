"""Vision transformers, built by torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from .base import Head, Probability
from .transformer import TransformerSettings

if TYPE_CHECKING:
    from torch import nn


class ViTSettings(TransformerSettings):
    """What all vision transformers share.

    Torchvision starts the classifier at zero: before the first step every image has the same logits, and only the
    classifier has a gradient.

    Attributes:
        patch_size: height and width in pixels of the square that makes one token; must divide the image's.
    """

    paper: ClassVar[str] = "Dosovitskiy et al. 2021, arXiv:2010.11929"
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})

    patch_size: PositiveInt
    dropout: Probability = 0.0

    def refuse_images(self, image_size: int) -> str | None:
        """Why images of ``image_size`` pixels do not fit: they cannot be cut into whole patches."""
        if image_size % self.patch_size:
            return f"model.patch_size: {self.patch_size} does not divide the image size, {image_size} pixels"
        return None

    def _build(self, head: Head) -> nn.Module:
        """Torchvision's network with its initialisation."""
        image_size = self.image_size_of(head)
        from torchvision.models import VisionTransformer

        from .modules import attend_eagerly

        model = VisionTransformer(
            image_size=image_size,
            patch_size=self.patch_size,
            num_layers=self.n_layer,
            num_heads=self.n_head,
            hidden_dim=self.n_embd,
            mlp_dim=self.n_inner,
            dropout=self.dropout,
            attention_dropout=self.dropout,
            num_classes=head.outputs,
        )
        if self.attention == "eager":
            attend_eagerly(model)
        return model


class ViTNano(ViTSettings):
    """A small ViT for images of 32 pixels, 0.8 M parameters: 4 layers, 2 heads, 128 dimensions, patches of 4."""

    name: Literal["vit_nano"] = "vit_nano"
    n_layer: PositiveInt = 4
    n_embd: PositiveInt = 128
    patch_size: PositiveInt = 4


class ViTBase(ViTSettings):
    """ViT-B/16, 86.6 M parameters: 12 layers, 12 heads, 768 dimensions, patches of 16."""

    name: Literal["vit_base"] = "vit_base"
    n_layer: PositiveInt = 12
    n_embd: PositiveInt = 768
    patch_size: PositiveInt = 16
