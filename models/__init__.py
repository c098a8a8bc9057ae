"""Architectures, one file per family; ``MODELS`` lists what a config can choose by name."""

from ..settings import Registry
from .base import CustomModel, Head, ModelSettings
from .bert import BERTBase, BERTLarge, BERTNano
from .gpt2 import GPT2, GPT2Nano
from .mlp import MLP, ScaledMLP
from .point import Point
from .resnet import ResNet18, ResNet50
from .vgg import VGG16
from .vit import ViTBase, ViTNano

__all__ = ["MODELS", "CustomModel", "Head", "ModelSettings"]

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
