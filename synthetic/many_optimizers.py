"""One update rule for many models, each with a learning rate of its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..optimizers import OPTIMIZERS, build_optimizer
from ..optimizers.settings import OptimizerSettings
from .many_models import of_each


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
        """Move every model once.

        Args:
            gradients: by the name of the parameter, ``[models, …]``.
            factor: of all learning rates, for a schedule.
        """
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
