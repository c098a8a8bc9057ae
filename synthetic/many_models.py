"""Many small models of one architecture, trained at once: the first dimension of every tensor is the model."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional


class ManyModels:
    """Classifiers whose weights are stacked, so that one pass computes all of them.

    They compute in training mode: torch's attention has a faster way in evaluation mode, which has no derivative. So
    a model must neither draw random numbers nor normalise over its batch.

    Args:
        models: of one architecture; their weights are copied.
        copies: how often the whole sequence is repeated: model i of copy j is number j · len(models) + i.

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
        """Cross-entropy of each model on each of its examples, in nats, ``[models, examples]``.

        Args:
            inputs: ``[models, examples, …]``.
            labels: int64 ``[models, examples]``.
        """
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
    """The whole tensor ``copies`` times, one after the other along the first dimension."""
    return tensor.repeat(copies, *[1] * (tensor.dim() - 1))


def of_each(values: Tensor, like: Tensor) -> Tensor:
    """One number a model, ``[models]``, shaped so that it multiplies ``like``, ``[models, …]``."""
    return values.view(-1, *[1] * (like.dim() - 1))
