"""Data sources: their settings, and the four kinds of data they load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field

from ..errors import UserError
from ..settings import CustomSettings, NamedSettings

if TYPE_CHECKING:
    import torch

    from .tokenization import Tokenizer


Key = tuple[int, int]
"""(epoch, index): a random draw for a key depends on the key alone, not on earlier draws."""

Kind = Literal["images", "text", "questions", "quadratics"]

Batch = dict[str, Any]
"""Tensors by name; the first dimension of each is the example."""

Fraction = Annotated[float, Field(gt=0, lt=1)]

Digest = Callable[[], str]
"""Gives the digest of data where their source knows it better than ``data_digest`` (data/digest.py) would."""


class Examples(Protocol):
    """Examples that are fetched as batches, by key."""

    def __len__(self) -> int: ...

    def batch(self, keys: Sequence[Key]) -> dict[str, torch.Tensor]:
        """The examples of ``keys``; the first dimension of every tensor is the example."""
        ...


@dataclass(frozen=True)
class Images:
    """Labelled images.

    Attributes:
        train: batches ``{"images": float32 [n, 3, size, size], "labels": int64 [n]}``.
        evaluation: the same, held out.
        classes: names of the classes; a label is an index into them.
        image_size: height and width in pixels.
    """

    train: Examples
    evaluation: Examples
    classes: tuple[str, ...]
    image_size: int
    digest: Digest | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Text:
    """Running text as token ids.

    Attributes:
        train: int32 ``[tokens]``.
        evaluation: int32 ``[tokens]``, held out.
        tokenizer: what made the ids.
        block_size: length of one example in tokens.
    """

    train: torch.Tensor
    evaluation: torch.Tensor
    tokenizer: Tokenizer
    block_size: int
    digest: Digest | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Question:
    """A question whose answers are spans of its context.

    Attributes:
        answers: the accepted answers, each a literal part of ``context``.
        answer_starts: where each answer starts, in characters.
    """

    id: str
    context: str
    question: str
    answers: tuple[str, ...]
    answer_starts: tuple[int, ...]


@dataclass(frozen=True)
class Questions:
    """Questions to train on, questions held out, and the tokenizer for both."""

    train: list[Question]
    evaluation: list[Question]
    tokenizer: Tokenizer
    digest: Digest | None = field(default=None, repr=False)


@dataclass(frozen=True)
class NoisyQuadratic:
    """A quadratic ½ wᵀHw whose gradient has noise.

    Attributes:
        train: batches ``{"noise": float32 [n, size]}``, the vector added to each example's gradient.
        evaluation: the same with vectors of zeros.
        hessian: H, float32 ``[size, size]``.
        block_sizes: of H's diagonal blocks.
    """

    train: Examples
    evaluation: Examples
    hessian: torch.Tensor
    block_sizes: tuple[int, ...]
    digest: Digest | None = field(default=None, repr=False)


Data = Images | Text | Questions | NoisyQuadratic


class DataSettings(NamedSettings):
    """A data source: its files or package, its split and its form."""

    kind: ClassVar[Kind]

    def load(self, seed: int) -> Data:
        """Read, split and prepare the data.

        Args:
            seed: the experiment's seed, for what is drawn per example (augmentation); the split does not depend on it.

        Raises:
            ValueError: a file is missing or damaged; the message is one line and names it.
        """
        raise NotImplementedError


class CustomData(CustomSettings):
    """A user's own data: a callable that returns ``Data`` for the other keys of its section."""

    def load(self, seed: int) -> Data:
        """The data that the user's callable returns; it gets ``seed`` beside the keys of the config."""
        data = self.create(seed=seed)
        if not isinstance(data, Data):
            known = "Images, Text, Questions or NoisyQuadratic"
            raise UserError(f"data.name: {self.name} gave a {type(data).__name__}, not {known}")
        return data
