"""Gradient noise at fixed weights: of mini-batches, and of single examples by ``torch.func.vmap``.

Weights, ``.grad``, modes, running statistics and PyTorch's random streams stay as they are. However many mini-batches
there are, a fixed number of parameter-sized buffers is alive.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import first_line
from ..models.modules import has_batch_norm, in_mode
from ..seeds import derive_seed
from ..tasks.base import Batch, Loss
from ..tasks.gradients import loss_with, mean_gradient, trained_parameters
from .settings import Mode

Gradient = list[Tensor]
"""One tensor per trained parameter, in the order of ``trained_parameters``."""


def reference_gradient(
    model: nn.Module, loss: Loss, batches: Iterable[Batch], *, mode: Mode = "train", seed: int = 0
) -> Gradient:
    """The gradient of the mean loss over all terms of all batches, of whatever sizes.

    Args:
        model: unchanged afterwards.
        loss: what is minimised.
        batches: the reference set.
        mode: of the model.
        seed: of the dropout.

    Raises:
        FloatingPointError: the gradient is NaN or infinite.
        ValueError: the batches have no loss term.
    """
    with frozen(model, mode):
        torch.manual_seed(derive_seed(seed, "reference dropout"))
        return list(mean_gradient(model, loss, batches).values())


def batch_noise(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Iterable[Batch]],
    reference: Gradient,
    *,
    mode: Mode = "train",
    seed: int = 0,
    terms: list[float] | None = None,
) -> Iterator[Gradient]:
    """The noise g_B − ∇f, one mini-batch after another.

    Args:
        model: unchanged afterwards and between two samples.
        loss: what is minimised.
        batches: the micro-batches of each mini-batch.
        reference: ∇f, at the same weights and in the same mode.
        mode: of the model.
        seed: of the dropout.
        terms: is extended by the number of loss terms of each sample, if given.

    Yields:
        Tensors ``[1, *shape]``, one per trained parameter.

    Raises:
        FloatingPointError: a gradient is NaN or infinite.
        ValueError: a batch has no loss term.
    """
    counts: list[Tensor | float] = []

    def counted_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | float]:
        total, count = loss(model, batch)
        counts.append(count)
        return total, count

    for number, micro_batches in enumerate(batches):
        with frozen(model, mode):
            torch.manual_seed(derive_seed(seed, "batch dropout", number))
            noise = list(mean_gradient(model, counted_loss, micro_batches).values())
        if terms is not None:
            terms.append(float(sum(counts)))
        counts.clear()
        torch._foreach_sub_(noise, reference)
        yield [layer[None] for layer in noise]


@contextmanager
def frozen(model: nn.Module, mode: Mode) -> Iterator[None]:
    """Put a model in a mode; restore modes, buffers and PyTorch's random streams afterwards."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    device = next(model.parameters()).device
    with (
        in_mode(model, mode == "train"),
        torch.random.fork_rng([device] if device.type != "cpu" else [], device_type=device.type),
    ):
        try:
            yield
        finally:
            for buffer, content in buffers:
                buffer.copy_(content)


CHUNK_BYTES = 2**30
"""Memory that the gradients of one chunk of examples may take; a chunk holds at least one example."""


def example_noise(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Batch],
    reference: Gradient,
    *,
    mode: Mode = "train",
    seed: int = 0,
    terms: list[float] | None = None,
) -> Iterator[Gradient]:
    """The noise g_i − ∇f of single examples, g_i being the gradient of the mean over the terms of example i.

    A model that cannot be vectorised, such as one that branches on values, is run one example at a time, with a
    warning.

    Args:
        model: unchanged afterwards and between two chunks.
        loss: what is minimised.
        batches: chunks of examples; the gradients of a chunk are computed at once.
        reference: ∇f, at the same weights and in the same mode.
        mode: of the model; must be ``eval`` if ``example_mode`` says so.
        seed: of the dropout.
        terms: is extended by the number of loss terms of each example, if given.

    Yields:
        Tensors ``[examples of the chunk, *shape]``, one per trained parameter.

    Raises:
        FloatingPointError: a gradient is NaN or infinite.
    """
    gradients = _example_gradients
    for number, batch in enumerate(batches):
        with frozen(model, mode):
            torch.manual_seed(derive_seed(seed, "example dropout", number))
            try:
                noise, counts = gradients(model, loss, batch)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                if gradients is _looped_example_gradients:
                    raise
                warnings.warn(f"single-example gradients are computed one by one: {first_line(error)}", stacklevel=2)
                gradients = _looped_example_gradients
                noise, counts = gradients(model, loss, batch)
        if not torch.isfinite(nn.utils.get_total_norm(noise)):
            raise FloatingPointError("the gradient of an example is NaN or infinite")
        if terms is not None:
            terms.extend(counts.tolist())
        torch._foreach_sub_(noise, reference)
        yield noise


def example_gradients(model: nn.Module, loss: Loss, batch: Batch) -> Gradient:
    """The gradient of each example's mean loss by ``vmap``, ``[examples, *shape]`` per trained parameter.

    Raises:
        RuntimeError: the model cannot be vectorised.
    """
    return _example_gradients(model, loss, batch)[0]


def _example_gradients(model: nn.Module, loss: Loss, batch: Batch) -> tuple[Gradient, Tensor]:
    """Those gradients, and the number of loss terms of each example."""
    parameters = {name: parameter.detach() for name, parameter in trained_parameters(model).items()}

    def loss_of(values: dict[str, Tensor], example: Batch) -> tuple[Tensor, Tensor]:
        total, count = loss_with(model, loss, values, {name: tensor[None] for name, tensor in example.items()})
        return total / count, torch.as_tensor(count, device=total.device)

    # Fused attention kernels have no batching rule: vmap would run them one example at a time.
    with sdpa_kernel(SDPBackend.MATH):
        of_examples = vmap(grad(loss_of, has_aux=True), in_dims=(None, 0), randomness="different")
        gradients, counts = of_examples(parameters, batch)
    return [gradients[name] for name in parameters], counts


def looped_example_gradients(model: nn.Module, loss: Loss, batch: Batch) -> Gradient:
    """The same as ``example_gradients``, one example at a time."""
    return _looped_example_gradients(model, loss, batch)[0]


def _looped_example_gradients(model: nn.Module, loss: Loss, batch: Batch) -> tuple[Gradient, Tensor]:
    """Those gradients, and the number of loss terms of each example."""
    parameters = list(trained_parameters(model).values())
    rows: list[Sequence[Tensor]] = []
    counts = []
    for i in range(len(next(iter(batch.values())))):
        total, count = loss(model, {name: tensor[i : i + 1] for name, tensor in batch.items()})
        rows.append(torch.autograd.grad(total / count, parameters, allow_unused=True, materialize_grads=True))
        counts.append(float(count))
    return [torch.stack(layer) for layer in zip(*rows, strict=True)], torch.tensor(counts)


def example_mode(model: nn.Module, mode: Mode) -> Mode:
    """The mode for single examples: ``eval`` with BatchNorm, as one example has no batch statistics; else ``mode``."""
    return "eval" if has_batch_norm(model) else mode


def chunk_size(model: nn.Module) -> int:
    """How many single-example gradients fit into ``CHUNK_BYTES``, at least 1."""
    size = sum(parameter.numel() * parameter.element_size() for parameter in trained_parameters(model).values())
    return max(1, CHUNK_BYTES // size)
