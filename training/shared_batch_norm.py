"""BatchNorm whose statistics are those of the whole batch, although every rank sees its share alone."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from ..configs.schema import Training
from ..errors import UserError
from ..tasks.problem import Problem
from .distributed import Ranks
from .twin import twin_of


def share_batch_norm(problem: Problem, settings: Training, batch_size: int, ranks: Ranks) -> Problem:
    """The problem to train on: with several ranks and BatchNorm, a model that uses the statistics of all ranks.

    The problem's own model is left as it is: rank 0 can measure with that one while the others wait.

    Args:
        problem: its model is in training mode, on the device.
        settings: the ``training`` section.
        batch_size: examples a step, over all ranks.
        ranks: those that train together.

    Raises:
        UserError: the statistics cannot be shared: on a CPU, or where a step has several forward passes.
    """
    if ranks.is_alone or not has_batch_norm(problem.model):
        return problem
    if next(problem.model.parameters()).device.type != "cuda":
        raise UserError(
            "torchrun: torch shares BatchNorm's statistics between GPUs only; train this model in one process"
        )
    if (settings.micro_batch_size or batch_size) < batch_size:
        raise UserError(
            "training.micro_batch_size: BatchNorm's statistics are shared in whole batches only; leave it out"
        )
    return replace(problem, model=synchronised_twin(problem.model))


def synchronised_twin(model: nn.Module) -> nn.Module:
    """A second model of the same tensors, parameters and running statistics, with SyncBatchNorm for BatchNorm."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(twin_of(model))


def has_batch_norm(model: nn.Module) -> bool:
    """Whether a layer of the model normalises by statistics of the batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
