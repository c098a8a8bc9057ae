"""Training runs that differ in learning rate and seed, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data.batches import BatchOrder
from ..data.settings import DataSettings
from ..models.settings import ModelSettings
from ..optimizers.settings import OptimizerSettings
from ..tasks import build_problem
from ..tasks.classification import Classification
from .layer_noise import LayerNoise
from .many_models import ManyModels, repeated
from .many_optimizers import ManyOptimizer


@dataclass(frozen=True)
class Start:
    """What the runs of one seed have in common, whatever the rule and the learning rate.

    Attributes:
        seed: of the order of the examples and of injected noise.
        model: with its weights at the start; it is left as it is.
        inputs: ``[examples, …]``.
        labels: int64 ``[examples]``.
    """

    seed: int
    model: nn.Module
    inputs: Tensor
    labels: Tensor


def start(model: ModelSettings, data: DataSettings, seed: int) -> Start:
    """The weights and the examples with which a run of a config with these settings and this seed begins.

    Raises:
        UserError: the model does not fit the data.
    """
    problem = build_problem(model, data, Classification(), seed)
    examples = problem.task.train
    batch = examples.batch([(0, index) for index in range(len(examples))])
    return Start(seed, problem.model, batch["images"], batch["labels"])


@dataclass(frozen=True)
class Training:
    """How long and on what the runs are trained; the learning rate falls evenly to 0.

    Attributes:
        steps: optimizer steps.
        batch_size: examples a step; None for all of them.
        noise: what is added to every gradient.
    """

    steps: int
    batch_size: int | None = None
    noise: LayerNoise | None = None


def train_many(starts: Sequence[Start], rule: OptimizerSettings, rates: Sequence[float], training: Training) -> Tensor:
    """Train every start at every rate and give the losses at the end.

    Args:
        starts: one a seed; models of one architecture, as many examples each.
        rule: the optimizer; its own lr is not used.
        rates: the learning rates.
        training: the rest.

    Returns:
        The loss of each example at the last weights, ``[rates, seeds, examples]``, in nats; not finite where a run
        diverged.
    """
    models = ManyModels([start.model for start in starts], copies=len(rates))
    lr = torch.tensor(rates, dtype=starts[0].inputs.dtype).repeat_interleave(len(starts))
    optimizer = ManyOptimizer(rule, models.parameters, lr)
    seeds = [start.seed for start in starts]
    for step, (inputs, labels) in enumerate(_batches(starts, len(rates), training)):
        gradients = models.gradients(inputs, labels)
        if training.noise is not None:
            gradients = training.noise.added(gradients, seeds, step)
        optimizer.step(gradients, factor=1 - step / training.steps)
    with torch.no_grad():
        losses = models.example_losses(*_everything(starts, len(rates)))
    return losses.view(len(rates), len(starts), -1)


def _batches(starts: Sequence[Start], copies: int, training: Training) -> Iterator[tuple[Tensor, Tensor]]:
    """The inputs and labels of each step, ``[copies · seeds, batch, …]``."""
    if training.batch_size is None:
        everything = _everything(starts, copies)
        for _ in range(training.steps):
            yield everything
        return
    orders = [BatchOrder(len(start.labels), training.batch_size, start.seed) for start in starts]
    for step in range(training.steps):
        indices = [[index for _, index in order.keys(step)] for order in orders]
        inputs = torch.stack([start.inputs[chosen] for start, chosen in zip(starts, indices, strict=True)])
        labels = torch.stack([start.labels[chosen] for start, chosen in zip(starts, indices, strict=True)])
        yield repeated(inputs, copies), repeated(labels, copies)


def _everything(starts: Sequence[Start], copies: int) -> tuple[Tensor, Tensor]:
    inputs = torch.stack([start.inputs for start in starts])
    labels = torch.stack([start.labels for start in starts])
    return repeated(inputs, copies), repeated(labels, copies)
