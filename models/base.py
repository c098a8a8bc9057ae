"""The settings that every model of the registry has: what it can do, and how it is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from ..errors import UserError
from ..settings import CustomSettings, NamedSettings

if TYPE_CHECKING:
    from torch import nn


Probability = Annotated[float, Field(ge=0, lt=1)]
"""A dropout probability."""


@dataclass(frozen=True)
class Head:
    """What a task needs a model to end in.

    Attributes:
        task: name of the task: ``classification``, ``causal_lm``, ``masked_lm``, ``question_answering``, ``quadratic``.
        outputs: number of classes, size of the vocabulary, or number of coordinates.
        image_size: height and width of the images in pixels; None for text.
        block_sizes: sizes of the blocks of a quadratic's Hessian; they add up to ``outputs``.
    """

    task: str
    outputs: int
    image_size: int | None = None
    block_sizes: tuple[int, ...] = ()


class ModelSettings(NamedSettings):
    """A model that can be built from its settings alone, offline."""

    tasks: ClassVar[frozenset[str]] = frozenset()

    def context_length(self) -> int | None:
        """The longest sequence in tokens, None for a model that reads images."""
        return None

    def refuse_images(self, image_size: int) -> str | None:
        """Why images of ``image_size`` pixels do not fit this model, in one line, or None."""
        return None

    def check(self, head: Head) -> None:
        """Refuse a head that this model cannot end in.

        Raises:
            ValueError: one line that begins with the key to change.
        """
        if head.task not in self.tasks:
            known = ", ".join(sorted(self.tasks))
            raise UserError(f"task.name: the model {self.name} cannot do {head.task}; it can do {known}")
        if head.image_size is not None and (refusal := self.refuse_images(head.image_size)):
            raise UserError(refusal)

    def image_size_of(self, head: Head) -> int:
        """The side of the images in pixels; a UserError where the data does not say."""
        if head.image_size is None:
            raise UserError(f"model.name: {self.name} must know the size of the images, which the data does not say")
        return head.image_size

    def build(self, head: Head) -> nn.Module:
        """The model in training mode, with random weights from torch's global generator.

        Raises:
            ValueError: the model cannot end in ``head``.
        """
        self.check(head)
        return self._build(head)

    def _build(self, head: Head) -> nn.Module:
        """The model for a head that has been checked."""
        raise NotImplementedError


class CustomModel(CustomSettings):
    """A user's own model class; it is called with the other keys of its section as keyword arguments."""

    def build(self, head: Head) -> nn.Module:
        """The user's model; its output must fit ``head``, which it is not told."""
        from torch import nn

        model = self.create()
        if not isinstance(model, nn.Module):
            raise UserError(f"model.name: {self.name} gave a {type(model).__name__}, not a torch.nn.Module")
        return model
