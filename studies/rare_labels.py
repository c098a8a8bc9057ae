"""How well a trained network predicts labels that are rare, and those that are frequent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ..configs.load import load_experiment
from ..data.batches import evaluation_batches
from ..tasks.cross_entropy import CrossEntropyTask
from ..training.devices import to_device
from ..training.revisiting import revisit
from ..training.run_folder import RunFolder
from .frequencies import count_training_labels


@dataclass(frozen=True)
class Halves:
    """Mean evaluation losses, in nats, on the rarer and on the more frequent half of the labels."""

    rare: float
    frequent: float


@cache
def losses_on_halves(folder: Path) -> Halves | None:
    """What a finished run loses on either half of the labels it is evaluated on.

    Classes are rare or frequent by their number in training: the rare ones are those, from the rarest on, that have at
    most half of the labels together.

    Args:
        folder: a run folder with a checkpoint of the last step.

    Returns:
        None for a task without classes, or where one half has no labels.

    Raises:
        UserError: the checkpoint is missing.
    """
    experiment = load_experiment(folder / "config.yaml")
    for visit in revisit(experiment, RunFolder(folder), ["100%"]):
        problem, settings = visit.problem, experiment.training
        if not isinstance(problem.task, CrossEntropyTask):
            return None
        device = next(problem.model.parameters()).device
        batches = evaluation_batches(problem.evaluation, settings.eval_batch_size, limit=settings.eval_examples)
        problem.model.eval()
        losses, counts = problem.task.losses_by_class(problem.model, (to_device(batch, device) for batch in batches))
        rare = rarer_half(count_training_labels(problem.task))
        if counts[rare].sum() > 0 and counts[~rare].sum() > 0:
            return Halves(*(float(losses[half].sum() / counts[half].sum()) for half in (rare, ~rare)))
    return None


def rarer_half(counts: Tensor) -> Tensor:
    """Which classes, from the rarest on, have at most half of all labels together.

    Args:
        counts: how often each class occurs, ``[classes]``.

    Returns:
        bool, ``[classes]``.
    """
    order = counts.argsort(stable=True)
    is_rare = torch.empty_like(counts, dtype=torch.bool)
    is_rare[order] = 2 * counts[order].cumsum(0) <= counts.sum()
    return is_rare
