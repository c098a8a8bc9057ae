"""The noise of mini-batch gradients at frozen weights, in a fixed number of parameter-sized buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..seeds import derive_seed
from ..tasks.settings import Batch
from .settings import Mode

Loss = Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]
"""From a model and a batch to the summed loss and the number of its terms."""

Gradient = list[Tensor]
"""One tensor a trained parameter, in the order of ``trained_parameters``."""


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that have a gradient, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def reference_gradient(
    model: nn.Module, loss: Loss, batches: Iterable[Batch], *, mode: Mode = "train", seed: int = 0
) -> Gradient:
    """The gradient of the mean loss over all terms of all batches, whatever their sizes.

    Args:
        model: left as it was found.
        loss: what is minimised.
        batches: the reference set.
        mode: of the model.
        seed: of the dropout.

    Raises:
        FloatingPointError: the gradient is not finite.
        ValueError: the batches have no loss term.
    """
    with frozen(model, mode):
        torch.manual_seed(derive_seed(seed, "reference dropout"))
        return mean_gradient(model, loss, batches)


def batch_noise(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Iterable[Batch]],
    reference: Gradient,
    *,
    mode: Mode = "train",
    seed: int = 0,
) -> Iterator[Gradient]:
    """The noise g_B − ∇f of one mini-batch after another.

    Args:
        model: left as it was found, also between two samples.
        loss: what is minimised.
        batches: each a mini-batch, as the micro-batches that make it up.
        reference: ∇f, at the same weights and in the same mode.
        mode: of the model.
        seed: of the dropout.

    Yields:
        Tensors ``[1, *shape]``, one a trained parameter.

    Raises:
        FloatingPointError: a gradient is not finite.
        ValueError: a batch has no loss term.
    """
    for number, micro_batches in enumerate(batches):
        with frozen(model, mode):
            torch.manual_seed(derive_seed(seed, "batch dropout", number))
            noise = mean_gradient(model, loss, micro_batches)
        torch._foreach_sub_(noise, reference)
        yield [layer[None] for layer in noise]


def mean_gradient(model: nn.Module, loss: Loss, batches: Iterable[Batch]) -> Gradient:
    """The gradient of the mean loss over all terms of all batches; ``.grad`` of the parameters is not touched.

    Raises:
        FloatingPointError: it is not finite.
        ValueError: there is no loss term.
    """
    parameters = list(trained_parameters(model).values())
    gradient: Gradient = []
    terms: Tensor | int = 0
    for batch in batches:
        total, count = loss(model, batch)
        # A parameter that the loss does not use has the gradient zero.
        part = list(torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True))
        terms = terms + count
        if gradient:
            torch._foreach_add_(gradient, part)
        else:
            gradient = part
    if not gradient or not terms:
        raise ValueError("noise: there is no loss term to take the gradient of")
    torch._foreach_div_(gradient, terms)
    if not torch.isfinite(nn.utils.get_total_norm(gradient)):
        raise FloatingPointError("a gradient is no finite number")
    return gradient


@contextmanager
def frozen(model: nn.Module, mode: Mode) -> Iterator[None]:
    """Put a model in a mode, and leave it afterwards as it was: modes, running statistics, PyTorch's random streams."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type != "cpu" else [], device_type=device.type):
        model.train(mode == "train")
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training
            for buffer, content in buffers:
                buffer.copy_(content)
