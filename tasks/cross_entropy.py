"""Cross-entropy over labels: what classification and both kinds of language model minimise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..data.base import Examples
from ..models.base import Head
from .base import Batch, Scores, Task, forward

if TYPE_CHECKING:
    from torch import Tensor, nn

IGNORED = -100
"""The label of a position that is no term of the loss."""


class CrossEntropyTask(Task):
    """One label per image, or one per token.

    A batch holds ``labels`` (int64; ``[batch]`` or ``[batch, tokens]``) beside the inputs of the model; if it also
    holds ``positions``, the labels are those of these tokens.
    """

    def __init__(self, head: Head, train: Examples, evaluation: Examples, label_smoothing: float = 0.0) -> None:
        super().__init__(head, train, evaluation)
        self.label_smoothing = label_smoothing

    def count(self, batch: Batch) -> Tensor:
        """The number of labels that are not ``IGNORED``."""
        return (batch["labels"] != IGNORED).sum()

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The summed cross-entropy, with label smoothing, and the number of labels.

        Raises:
            ValueError: the model's logits do not fit the labels.
        """
        loss = summed_cross_entropy(self._logits(model, batch), batch["labels"], self.label_smoothing)
        return loss, self.count(batch)

    def tokens(self, batch: Batch) -> int:
        """The number of input tokens, 0 for images; sequences of running text have no padding."""
        return batch["input_ids"].numel() if "input_ids" in batch else 0

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> Scores:
        """Mean loss, without label smoothing, and share of right labels; for language models the perplexity too."""
        import torch

        losses, counts, correct = [], [], []
        with torch.no_grad():
            for batch in batches:
                logits = self._logits(model, batch)
                losses.append(summed_cross_entropy(logits, batch["labels"]))
                counts.append(self.count(batch))
                correct.append((logits.argmax(-1) == batch["labels"]).sum())
        # Numbers stay on the device until here: waiting for each batch would leave a GPU idle between batches.
        total = sum(torch.stack(counts).tolist()) if counts else 0
        if total == 0:
            raise ValueError("evaluation: there is no label to score")
        loss = sum(torch.stack(losses).tolist()) / total
        accuracy = sum(torch.stack(correct).tolist()) / total
        if self.head.task == "classification":
            return Scores(loss, accuracy=accuracy)
        return Scores(loss, perplexity=torch.tensor(loss, dtype=torch.float64).exp().item(), accuracy=accuracy)

    def losses_by_class(self, model: nn.Module, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
        """The summed cross-entropy of the labels of each class, in nats, and their number.

        Returns:
            float64 and int64 ``[outputs]``, on the CPU; label smoothing is left out.
        """
        import torch

        losses = torch.zeros(self.head.outputs, dtype=torch.float64)
        counts = torch.zeros(self.head.outputs, dtype=torch.int64)
        with torch.no_grad():
            for batch in batches:
                labels = batch["labels"].flatten()
                logits = widened(self._logits(model, batch)).flatten(end_dim=-2)
                each = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
                known = labels != IGNORED
                losses.index_add_(0, labels[known].cpu(), each[known].double().cpu())
                counts += torch.bincount(labels[known].cpu(), minlength=len(counts))
        return losses, counts

    def _logits(self, model: nn.Module, batch: Batch) -> Tensor:
        output = forward(model, batch)
        logits: Tensor = getattr(output, "logits", output)
        labels = batch["labels"]
        if "positions" in batch and logits.shape[:-1] == batch["input_ids"].shape:
            logits = logits.take_along_dim(batch["positions"][..., None], dim=1)
        if logits.shape[:-1] != labels.shape or logits.shape[-1] < self.head.outputs:
            needed = [*labels.shape, self.head.outputs]
            raise ValueError(f"the model's logits have shape {list(logits.shape)}; {self.head.task} needs {needed}")
        return logits


def summed_cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy in nats, summed over the labels that are not ``IGNORED``.

    Args:
        logits: ``[..., outputs]``; half precision is widened.
        labels: int64 ``[...]``.
        label_smoothing: the share of the target that is spread evenly over all outputs.
    """
    from torch.nn import functional

    return functional.cross_entropy(
        widened(logits).flatten(end_dim=-2),
        labels.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


def widened(logits: Tensor) -> Tensor:
    """The logits in float32 at least, which sums over a whole batch need."""
    import torch

    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def cut_sequences(tokens: Tensor, length: int, step: int) -> Tensor:
    """A view of all full sequences of ``tokens``, ``[sequences, length]``; sequence i starts at token i·step.

    Raises:
        ValueError: the text is shorter than one sequence.
    """
    if len(tokens) < length:
        raise ValueError(f"data.block_size: a part of the text has {len(tokens)} tokens, one example needs {length}")
    return tokens.unfold(0, length, step)
