"""The interface of all tasks, before and after they are bound to data, and how a batch is passed to a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from ..data.base import Batch, Examples, Kind
from ..settings import NamedSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..models.base import Head


Loss: TypeAlias = "Callable[[nn.Module, Any], tuple[Tensor, Tensor | float]]"
"""From a model and a batch to the summed loss and the number of its terms."""


@dataclass(frozen=True)
class Scores:
    """Evaluation results; None where a score does not apply to the task.

    Attributes:
        loss: mean over all terms of the loss, in nats.
        perplexity: exp(loss), for language models.
        accuracy: share in [0, 1] of labels, or of predicted tokens, that are right.
        exact_match: share in [0, 1] of questions answered to the letter.
        f1: mean token overlap of the answers, in [0, 1].
    """

    loss: float
    perplexity: float | None = None
    accuracy: float | None = None
    exact_match: float | None = None
    f1: float | None = None


class Task(ABC):
    """A loss and a score over the examples of one data source.

    Args:
        head: what a model must end in.
        train: examples to learn from.
        evaluation: examples held out.
    """

    def __init__(self, head: Head, train: Examples, evaluation: Examples) -> None:
        self.head = head
        self.train = train
        self.evaluation = evaluation

    def count(self, batch: Batch) -> Tensor:
        """The number of terms in the batch's loss (examples, labels, masked tokens), int64 scalar."""
        import torch

        tensor = next(iter(batch.values()))
        return torch.full((), len(tensor), device=tensor.device)

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss summed over the batch's terms, in nats, and their number."""

    def tokens(self, batch: Batch) -> int:
        """The number of tokens without padding; 0 where there are none."""
        return 0

    @abstractmethod
    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> Scores:
        """Score a model that is in eval mode over batches of the evaluation examples, given in order."""


class TaskSettings(NamedSettings):
    """What is minimised."""

    kind: ClassVar[Kind]

    def bind(self, data: Any, seed: int) -> Task:
        """The task over ``data``, whose type is that of ``kind``."""
        raise NotImplementedError


TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def forward(model: nn.Module, batch: Batch) -> Any:
    """The model's output for ``batch``.

    A vision model is called with the images; a language model with the ``TEXT_INPUTS`` that the batch has, by keyword.
    A batch without padding has no ``attention_mask``. Where the batch has ``positions``, a model that
    ``predicts_at_positions`` is asked for the logits of those tokens alone, which saves most of the work of its head.
    """
    if "images" in batch:
        return model(batch["images"])
    inputs = {name: batch[name] for name in TEXT_INPUTS if name in batch}
    if "positions" in batch and getattr(model, "predicts_at_positions", False):
        inputs["positions"] = batch["positions"]
    return model(**inputs)
