"""The models that a config can choose by name."""

from __future__ import annotations

from ..settings import Registry
from .base import CustomModel, ModelSettings
from .bert import BERTBase, BERTLarge, BERTNano
from .gpt2 import GPT2, GPT2Nano
from .mlp import MLP, ScaledMLP
from .point import Point
from .resnet import ResNet18, ResNet50
from .vgg import VGG16
from .vit import ViTBase, ViTNano

MODELS: Registry[ModelSettings] = Registry(
    "model",
    [
        MLP,
        ScaledMLP,
        Point,
        ResNet18,
        ResNet50,
        VGG16,
        ViTNano,
        ViTBase,
        GPT2Nano,
        GPT2,
        BERTNano,
        BERTBase,
        BERTLarge,
    ],
    custom=CustomModel,
)
