"""Image classification."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..data.base import Images
from ..models.base import Head
from .base import TaskSettings
from .cross_entropy import CrossEntropyTask


class Classification(TaskSettings):
    """Cross-entropy between the classes of images; scored by accuracy.

    Attributes:
        label_smoothing: share of each target that is spread evenly over all classes in training; evaluation has none.
    """

    kind = "images"

    name: Literal["classification"] = "classification"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    def bind(self, data: Images, seed: int) -> CrossEntropyTask:
        """The task over ``data``; nothing in it is drawn."""
        head = Head("classification", len(data.classes), data.image_size)
        return CrossEntropyTask(head, data.train, data.evaluation, self.label_smoothing)
