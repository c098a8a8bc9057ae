"""Data sources: one file a source, a registry."""

from .registry import DATA
from .settings import DataSettings, Images, NoisyQuadratic, Question, Questions, Text

__all__ = ["DATA", "DataSettings", "Images", "NoisyQuadratic", "Question", "Questions", "Text"]
