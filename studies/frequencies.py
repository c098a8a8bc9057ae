"""What a prediction loses that knows no more than how frequent each label is: what a trained network should beat."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ..configs.schema import Experiment
from ..data.batches import evaluation_batches
from ..tasks.cross_entropy import IGNORED
from ..tasks.problem import bind_task
from ..tasks.settings import Batch, Task

MOST_EXAMPLES = 16_384
"""Of the training part, evenly spaced, that are counted."""

BATCH = 256


def loss_of_frequencies(experiment: Experiment) -> float | None:
    """Cross-entropy, in nats, of the labels that the experiment is evaluated on, under their frequencies in training.

    Every class counts as seen once more than it was, so that none is impossible.

    Returns:
        None for a task without classes.
    """
    task = bind_task(experiment.task, experiment.data, experiment.seed)
    if "labels" not in task.evaluation.batch([(0, 0)]):
        return None
    seen = 1 + count_training_labels(task)
    evaluated = _count(task, evaluation_batches(task.evaluation, BATCH, limit=experiment.training.eval_examples))
    frequencies = seen.double() / seen.sum()
    return float(-(evaluated * frequencies.log()).sum() / evaluated.sum())


def count_training_labels(task: Task) -> Tensor:
    """How often each class is a label in a part of the training examples, int64 ``[outputs]``."""
    return _count(task, _training_batches(task))


def _training_batches(task: Task) -> Iterable[Batch]:
    stride = -(-len(task.train) // MOST_EXAMPLES)
    keys = [(0, index) for index in range(0, len(task.train), stride)]
    return (task.train.batch(keys[start : start + BATCH]) for start in range(0, len(keys), BATCH))


def _count(task: Task, batches: Iterable[Batch]) -> Tensor:
    """How often each class occurs, ``[outputs]``."""
    counts = torch.zeros(task.head.outputs, dtype=torch.int64)
    for batch in batches:
        labels = batch["labels"].flatten()
        counts += torch.bincount(labels[labels != IGNORED], minlength=len(counts))
    return counts
