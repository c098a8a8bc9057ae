"""Gradient noise of any model, for use without a config or a run folder."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from ..tasks.settings import Batch
from .gradients import Loss, batch_noise, reference_gradient, trained_parameters
from .reduction import Reduction, ScopeNoise
from .settings import Mode


def gradient_noise(
    model: nn.Module,
    loss: Loss,
    reference: Iterable[Batch],
    batches: Iterable[Batch],
    *,
    mode: Mode = "train",
    coordinates: int = 500,
    seed: int = 0,
) -> dict[str, ScopeNoise]:
    """Sample the noise of mini-batch gradients at a model's present weights, one gradient in memory at a time.

    Args:
        model: left as it is found.
        loss: from the model and a batch to the summed loss and the number of its terms.
        reference: batches over which the gradient is exact: the whole training set, or enough of it.
        batches: the mini-batches, one noise sample each; all of the same size.
        mode: whether dropout is on and BatchNorm uses each batch's own statistics.
        coordinates: how many random coordinates of each parameter and of the whole model are kept, at most.
        seed: chooses the coordinates and the dropout.

    Returns:
        What was kept, by parameter name, and of the whole model under ``all``; ``tail_report`` takes the coordinates,
        or the sketch.

    Raises:
        FloatingPointError: a gradient is no finite number.
        ValueError: a batch has no loss term.
    """
    center = reference_gradient(model, loss, reference, mode=mode, seed=seed)
    noise = batch_noise(model, loss, ([batch] for batch in batches), center, mode=mode, seed=seed)
    return Reduction(trained_parameters(model), coordinates, seed).reduce(noise)
