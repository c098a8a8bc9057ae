"""Data sources: one file a source, a registry."""

from .base import DataSettings, Images, NoisyQuadratic, Question, Questions, Text
from .registry import DATA

__all__ = ["DATA", "DataSettings", "Images", "NoisyQuadratic", "Question", "Questions", "Text"]
