"""Going down a quadratic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..data.base import NoisyQuadratic
from ..models.base import Head
from .base import TaskSettings

if TYPE_CHECKING:
    from .base import Task


class Quadratic(TaskSettings):
    """½ wᵀHw plus the noise of each example times w; scored by ½ wᵀHw alone."""

    kind = "quadratics"

    name: Literal["quadratic"] = "quadratic"

    def bind(self, data: NoisyQuadratic, seed: int) -> Task:
        """The task over ``data``; nothing in it is drawn."""
        from .quadratic_loss import QuadraticTask

        head = Head("quadratic", len(data.hessian), block_sizes=data.block_sizes)
        return QuadraticTask(head, data.train, data.evaluation, data.hessian)
