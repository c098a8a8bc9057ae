"""Architectures: one file a family, a registry."""

from .registry import MODELS
from .settings import Head, ModelSettings

__all__ = ["MODELS", "Head", "ModelSettings"]
