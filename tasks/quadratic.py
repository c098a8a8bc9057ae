"""Minimising a quadratic."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from ..data.base import Examples, NoisyQuadratic
from ..models.base import Head
from .base import Batch, Scores, Task, TaskSettings

if TYPE_CHECKING:
    from torch import Tensor, nn


class Quadratic(TaskSettings):
    """½ wᵀHw plus the noise of each example times w; scored by ½ wᵀHw alone."""

    kind = "quadratics"

    name: Literal["quadratic"] = "quadratic"

    def bind(self, data: NoisyQuadratic, seed: int) -> QuadraticTask:
        """The task over ``data``; nothing in it is drawn."""
        head = Head("quadratic", len(data.hessian), block_sizes=data.block_sizes)
        return QuadraticTask(head, data.train, data.evaluation, data.hessian)


class QuadraticTask(Task):
    """½ wᵀHw + ξᵀw for each example's ξ, where w is what the model returns when it is called without an input.

    Args:
        head: of the model.
        train: batches of ``noise``, that is ξ, ``[batch, size]``.
        evaluation: the same.
        hessian: H ``[size, size]``.
    """

    def __init__(self, head: Head, train: Examples, evaluation: Examples, hessian: Tensor) -> None:
        super().__init__(head, train, evaluation)
        self.hessian = hessian

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The losses summed over examples, and their number.

        Raises:
            ValueError: the model's output is no vector of the right size.
        """
        w: Tensor = model()
        if w.shape != (self.head.outputs,):
            raise ValueError(f"the model's output has shape {list(w.shape)}; quadratic needs [{self.head.outputs}]")
        count = self.count(batch)
        return count * (w @ self.hessian.to(w) @ w) / 2 + (batch["noise"] @ w).sum(), count

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> Scores:
        """The mean loss."""
        import torch

        with torch.no_grad():
            losses, counts = zip(*(self.loss(model, batch) for batch in batches), strict=True)
        return Scores(float(torch.stack(losses).sum() / torch.stack(counts).sum()))
