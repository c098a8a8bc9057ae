"""Architectures: one file a family, a registry."""

from .base import Head, ModelSettings
from .registry import MODELS

__all__ = ["MODELS", "Head", "ModelSettings"]
