"""Training through ``torch.compile``; everything else uses the model as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..tasks.problem import Problem
from ..tasks.settings import Batch


@dataclass(frozen=True)
class CompiledProblem(Problem):
    """A problem whose loss is compiled; model and task, and so the weights and their names, are the same objects."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss summed over the batch's terms, in nats, and their number.

        Raises:
            UserError: it cannot be compiled, for instance because there is no C++ compiler.
        """
        try:
            return self._compiled_loss(model, batch)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(f"training.compile: torch.compile fails, set it to false: {reason}") from error

    @cached_property
    def _compiled_loss(self) -> Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]:
        # Sizes that are symbols from the start: what is compiled, and so each rounding, depends on no earlier batch.
        return torch.compile(self.task.loss, dynamic=True)
