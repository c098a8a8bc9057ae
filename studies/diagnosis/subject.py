"""What is diagnosed: an untrained model, its loss and its data, from a config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...configs.schema import Experiment
from ...hessian.settings import HessianSettings
from ...hessian.site import fixed_batches
from ...noise.drawing import NoiseDraw
from ...noise.settings import NoiseSettings
from ...seeds import derive_seed
from ...tasks.problem import build_problem
from ...training.devices import choose_device, to_device

CURVATURE_EXAMPLES = 8
"""Over so many examples the loss is taken whose curvature is measured, as in the study that is compared with."""


@dataclass(frozen=True)
class Subject:
    """An untrained model with what is needed to measure it.

    Attributes:
        name: what the results are called.
        source: the option or file that it comes from, for error messages.
        model: as built.
        loss: from the model and a batch to the summed loss and the number of its terms.
        reference: so many mini-batches, or fewer if there are no more, as batches of one forward pass each.
        mini_batches: so many mini-batches, each as the batches that make it up.
        curvature: the batches over which the curvature is that of the mean loss.
        seed: of all that is drawn.
    """

    name: str
    source: str
    model: nn.Module
    loss: Callable[[nn.Module, Any], tuple[Tensor, Tensor]]
    reference: Callable[[int], Iterable[Any]]
    mini_batches: Callable[[int], Iterable[Iterable[Any]]]
    curvature: Sequence[Any]
    seed: int


def subject_of_config(experiment: Experiment, source: str) -> Subject:
    """The subject of a config: the same batches, and hence the same numbers, as at step 0 of a run.

    Args:
        experiment: ``noise.batch_size`` and the batches of ``hessian`` count if they are given.
        source: the config's file.

    Raises:
        UserError: the model or the data cannot be had, or there are too few examples.
    """
    training, seed = experiment.training, experiment.seed
    device = choose_device(training.device)
    problem = build_problem(experiment.model, experiment.data, experiment.task, seed, device)
    batch_size = (experiment.noise or NoiseSettings()).examples_per_batch(training.batch_size)
    draw = NoiseDraw(problem.train, batch_size, training.micro_batch_size, derive_seed(seed, "noise", 0))
    curvature = fixed_batches(problem.train, experiment.hessian or HessianSettings(batch_size=CURVATURE_EXAMPLES), seed)

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        return problem.loss(model, to_device(batch, device))

    return Subject(experiment.name, source, problem.model, loss, draw.reference, draw.mini_batches, curvature, seed)
