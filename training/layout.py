"""How ranks that train together hold their model: each has all of it. ``sharding`` has the other way."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn

from ..tasks.problem import Problem
from .distributed import ALONE, Ranks


class Replicated:
    """Every rank holds the whole model, or the only one does.

    Attributes:
        problem: what is trained.
        ranks: those that train together.
        fewest_passes: forward passes that each rank makes in a step, even where fewer do for its share of the batch.
    """

    def __init__(self, problem: Problem, ranks: Ranks = ALONE) -> None:
        """Take over what is trained, and by whom."""
        self.problem = problem
        self.ranks = ranks
        self.fewest_passes = 0

    def add_up(self, loss: Tensor) -> list[nn.Parameter]:
        """Sum the loss and the gradients over the ranks, in place; the parameters that have a gradient."""
        parameters = [parameter for parameter in self.problem.model.parameters() if parameter.grad is not None]
        self.ranks.sum([loss, *(parameter.grad for parameter in parameters if parameter.grad is not None)])
        return parameters

    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """The Euclidean norm of tensors that go with the parameters of ``add_up``."""
        return nn.utils.get_total_norm(tensors)

    def whole(self) -> AbstractContextManager[None]:
        """Within this block rank 0 has the whole model and the optimizer's whole state; every rank enters it."""
        return nullcontext()
