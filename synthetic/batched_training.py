"""Many training runs at once: small models of one architecture that differ in learning rate and seed.

The first dimension of every tensor is the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from ..data.base import DataSettings
from ..data.batches import BatchOrder
from ..data.noise_laws import NoiseLaw
from ..models.base import ModelSettings
from ..optimizers import OPTIMIZERS, build_optimizer
from ..optimizers.registry import OptimizerSettings
from ..seeds import derive_seed
from ..tasks import build_problem
from ..tasks.classification import Classification
from .trials import typical_norm


class ManyModels:
    """Classifiers whose weights are stacked, so that one pass computes all of them.

    They compute in training mode: torch's attention has a faster way in evaluation mode, which has no derivative. So
    a model must neither draw random numbers nor normalise over its batch.

    Args:
        models: of one architecture; their weights are copied.
        copies: how often the sequence is repeated: model i of copy j is number j · len(models) + i.

    Attributes:
        parameters: by name, ``[models, …]``; gradients flow to them.
        buffers: by name, ``[models, …]``.
    """

    def __init__(self, models: Sequence[nn.Module], copies: int = 1) -> None:
        parameters, buffers = stack_module_state(list(models))
        self.parameters = {
            name: repeated(value.detach(), copies).requires_grad_() for name, value in parameters.items()
        }
        self.buffers = {name: repeated(value, copies) for name, value in buffers.items()}
        # functional_call needs the structure alone: on the meta device it has no weights of its own.
        self._structure = deepcopy(models[0]).to("meta").train()

    def example_losses(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each model on each of its examples, in nats; like ``labels``, ``[models, examples]``."""
        logits = vmap(self._logits)(self.parameters, self.buffers, inputs)
        losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return losses.view(labels.shape)

    def gradients(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The gradient of each model's mean loss, by the name of the parameter, ``[models, …]``."""
        losses = self.example_losses(inputs, labels).mean(1)
        # No model's loss depends on another's weights, so the gradient of the sum holds each one's own.
        gradients = torch.autograd.grad(losses.sum(), list(self.parameters.values()))
        return dict(zip(self.parameters, gradients, strict=True))

    def _logits(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        logits: Tensor = functional_call(self._structure, (parameters, buffers), (inputs,))
        return logits


def repeated(tensor: Tensor, copies: int) -> Tensor:
    """The tensor ``copies`` times, one after the other along the first dimension."""
    return tensor.repeat(copies, *[1] * (tensor.dim() - 1))


def of_each(values: Tensor, like: Tensor) -> Tensor:
    """One number per model, ``[models]``, shaped so that it multiplies ``like``, ``[models, …]``."""
    return values.view(-1, *[1] * (like.dim() - 1))


class ManyOptimizer:
    """A rule of the registry, applied to every model of a stack.

    Without weight decay each rule is x ← x − lr · direction, and the direction does not depend on x or lr. So the
    optimizer itself, at lr = 1, moves tensors of zeros, and each model moves by its own lr times what they did. What
    is computed for each coordinate alone is then the same for a stack as for a model; only GClip's norm is not, and is
    taken of each model here.

    Args:
        settings: the rule; its own lr is not used.
        parameters: by name, ``[models, …]``; they are updated in place.
        rates: ``[models]``, the learning rate of each.

    Raises:
        ValueError: the rule has weight decay, or a norm over all parameters that is not GClip's.
    """

    def __init__(self, settings: OptimizerSettings, parameters: Mapping[str, Tensor], rates: Tensor) -> None:
        arguments = settings.arguments()
        if arguments.get("weight_decay"):
            raise ValueError("optimizer.weight_decay: must be 0 where many models are trained at once")
        if settings.registry_name() == "normalized_sgd":
            raise ValueError("optimizer.name: normalized_sgd cannot train many models at once")
        self._parameters, self._rates = parameters, rates
        self._clip: float | None = None
        if settings.registry_name() == "gclip":
            self._clip = arguments["clip"]
            settings = OPTIMIZERS["sgd"].model_validate({"momentum": arguments["momentum"]})
        self._moved = {name: torch.nn.Parameter(torch.zeros_like(value)) for name, value in parameters.items()}
        self._optimizer = build_optimizer(settings.model_copy(update={"lr": 1.0}), self._moved.items())

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor], factor: float = 1.0) -> None:
        """Move every model once, by gradients ``[models, …]`` by name; ``factor`` scales all rates, for a schedule."""
        if self._clip is not None:
            gradients = _clipped(gradients, self._clip)
        for name, moved in self._moved.items():
            moved.zero_()
            moved.grad = gradients[name]
        self._optimizer.step()
        for name, parameter in self._parameters.items():
            parameter.addcmul_(self._moved[name], of_each(factor * self._rates, parameter))


def _clipped(gradients: Mapping[str, Tensor], clip: float) -> dict[str, Tensor]:
    """The gradients scaled down so that each model's global norm is at most ``clip``."""
    squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients.values()])
    factors = (clip / squares.sum(0).sqrt()).clamp(max=1)
    return {name: gradient * of_each(factors, gradient) for name, gradient in gradients.items()}


@dataclass(frozen=True)
class LayerNoise:
    """Independent noise on every coordinate, as large in each parameter tensor as the tensor's own gradient.

    A tensor with gradient g gets ratio · ‖g‖ · z/m, z drawn from the law and m the median norm of z. That is
    ``training.inject_noise`` for one tensor at a time: measured against each tensor by itself, noise and gradient
    change by the same factor where a weight is written as a factor times another weight.

    Attributes:
        law: of z.
        ratio: median norm of the noise over the norm of the gradient, in each tensor.
    """

    law: NoiseLaw
    ratio: float

    def added(self, gradients: Mapping[str, Tensor], seeds: Sequence[int], step: int) -> dict[str, Tensor]:
        """The gradients with noise.

        Args:
            gradients: by name, ``[copies · seeds, …]``; model i of a copy has the i-th seed.
            seeds: all copies of a seed, and all rules, get the same z.
            step: gets a noise of its own.
        """
        generators = [torch.Generator().manual_seed(derive_seed(seed, "inject_noise", step)) for seed in seeds]
        noisy = {}
        for name, gradient in gradients.items():
            drawn = torch.stack([self.law.draw(gradient.shape[1:], generator) for generator in generators])
            size = self.ratio / typical_norm(self.law, gradient[0].numel()) * gradient.flatten(1).norm(dim=1)
            noise = repeated(drawn.to(gradient), len(gradient) // len(seeds)) * of_each(size, gradient)
            noisy[name] = gradient + noise
        return noisy


@dataclass(frozen=True)
class Start:
    """What the runs of one seed have in common, for every rule and learning rate.

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
    """How long and on what runs are trained; the learning rate falls evenly to 0.

    Attributes:
        steps: optimizer steps.
        batch_size: examples per step; None for all of them.
        noise: what is added to every gradient.
    """

    steps: int
    batch_size: int | None = None
    noise: LayerNoise | None = None


def train_many(starts: Sequence[Start], rule: OptimizerSettings, rates: Sequence[float], training: Training) -> Tensor:
    """Train every start at every rate with a rule, whose own lr is not used.

    The starts are one per seed, with models of one architecture and as many examples each.

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
        losses = models.example_losses(*_stacked(starts, len(rates)))
    return losses.view(len(rates), len(starts), -1)


def _batches(starts: Sequence[Start], copies: int, training: Training) -> Iterator[tuple[Tensor, Tensor]]:
    """The inputs and labels of each step."""
    if training.batch_size is None:
        yield from repeat(_stacked(starts, copies), training.steps)
        return
    orders = [BatchOrder(len(start.labels), training.batch_size, start.seed) for start in starts]
    for step in range(training.steps):
        yield _stacked(starts, copies, [[index for _, index in order.keys(step)] for order in orders])


def _stacked(starts: Sequence[Start], copies: int, chosen: Sequence[Any] = ()) -> tuple[Tensor, Tensor]:
    """Inputs and labels of each start's chosen examples, by default all: ``[copies · seeds, examples, …]``."""
    pairs = list(zip(starts, chosen or [slice(None)] * len(starts), strict=True))
    inputs = torch.stack([start.inputs[indices] for start, indices in pairs])
    labels = torch.stack([start.labels[indices] for start, indices in pairs])
    return repeated(inputs, copies), repeated(labels, copies)
