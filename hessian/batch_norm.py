"""What BatchNorm normalises by while curvature is measured.

An untrained network's running statistics are 0 and 1, so in evaluation mode its BatchNorm layers do nothing: signals
die out or grow from layer to layer as they never do in training. ``calibrated`` is the network as it evaluates after
some training steps at the same weights; ``batch`` is the function that training differentiates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import UserError
from ..models.modules import in_mode
from ..tasks.base import Loss
from .settings import BatchNorm


@contextmanager
def batch_norm_statistics(
    model: nn.Module, loss_fn: Loss, batches: Iterable[Any], statistics: BatchNorm
) -> Iterator[None]:
    """Inside, BatchNorm layers in evaluation mode normalise by the given statistics; afterwards as before.

    Args:
        model: restored afterwards: running statistics to the bit, modes, momentum.
        loss_fn: from the model and a batch to the summed loss and the number of its terms.
        batches: those over which the curvature is measured.
        statistics: ``running``, as they are; ``calibrated``, the mean over ``batches`` of each batch's mean and
            unbiased variance, as ``torch.optim.swa_utils.update_bn`` computes them, but without dropout; or ``batch``,
            those of the batch in the forward pass, through which gradients flow, as in training.

    Raises:
        UserError: a layer has one value per channel in a batch, whose variance is unknown.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]
    if not layers or statistics == "running":
        yield
        return
    before = [(layer, dict(layer.named_buffers(recurse=False)), layer.momentum) for layer in layers]
    try:
        if statistics == "batch":
            for layer in layers:
                # Without running statistics a layer uses the batch's in evaluation mode too.
                layer.running_mean = layer.running_var = None
        else:
            _calibrate(model, layers, loss_fn, batches)
        yield
    except ValueError as error:
        if "value per channel" not in str(error):
            raise
        raise UserError(
            f"hessian.batch_norm: {statistics} needs several values per channel in each batch ({error}); "
            "give a larger hessian.batch_size or hessian.batch_norm=running"
        ) from error
    finally:
        for layer, buffers, momentum in before:
            layer.momentum = momentum
            for name, buffer in buffers.items():
                setattr(layer, name, buffer)


def _calibrate(model: nn.Module, layers: list[_BatchNorm], loss_fn: Loss, batches: Iterable[Any]) -> None:
    """Give the layers new buffers with the statistics of the batches."""
    for layer in layers:
        for name, buffer in list(layer.named_buffers(recurse=False)):
            setattr(layer, name, buffer.clone())
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative average
    with in_mode(model, training=False), torch.no_grad():
        for layer in layers:
            layer.training = True
        for batch in batches:
            loss_fn(model, batch)
