"""The gradient noise of a run, measured while it trains or afterwards at its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from ..configs.schema import Experiment
from ..errors import UserError
from ..models.modules import in_mode, uses_batch_statistics
from ..noise.measure import NoiseMeasurement, measure_noise
from ..noise.record import NoiseRecord
from ..noise.settings import NoiseSettings
from ..progress import track
from ..tasks.base import Batch
from ..tasks.problem import Problem
from .devices import autocast, to_device
from .monitor import Meter, measure_saved_states
from .run_folder import RunFolder


class NoiseMeter(Meter[NoiseMeasurement]):
    """Measures and records the gradient noise of a problem.

    Args:
        experiment: its ``noise`` section says when and what; without one, nothing is due.
        problem: the model and its task.
        record: where the results go.
    """

    quantity = "noise"

    def __init__(self, experiment: Experiment, problem: Problem, record: NoiseRecord) -> None:
        self._settings = experiment.noise or NoiseSettings()
        self._is_wanted = experiment.noise is not None
        self._training = experiment.training
        self._seed = experiment.seed
        self._problem = problem
        self._record = record

    def is_due(self, step: int) -> bool:
        """Whether the config asks for it; a resumed run does not measure a step again."""
        return self._is_wanted and self._settings.is_due(step) and not (step > 0 and self._record.is_complete(step))

    def measure(self, step: int) -> NoiseMeasurement:
        """Measure at the present weights, into noise.csv and noise/."""
        batch_size = self._settings.examples_per_batch(self._training.batch_size)
        self._check_batch_norm(batch_size)
        measurement = measure_noise(
            self._problem.model,
            self._loss,
            self._problem.train,
            self._settings,
            batch_size=batch_size,
            micro_batch_size=self._training.micro_batch_size,
            step=step,
            seed=self._seed,
            track=lambda label, items, total: track(f"noise at step {step}, {label}", items, total),
        )
        self._record.write(step, measurement.rows, measurement.samples)
        return measurement

    def _check_batch_norm(self, batch_size: int) -> None:
        pass_size = self._training.micro_batch_size or batch_size
        with in_mode(self._problem.model, training=self._settings.mode == "train"):
            if pass_size < batch_size and uses_batch_statistics(self._problem.model):
                raise UserError(
                    f"training.micro_batch_size: BatchNorm needs the statistics of the full batch of {batch_size}; "
                    "leave it out, or measure with noise.mode: eval"
                )

    def _loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        device = next(model.parameters()).device
        with autocast(device, self._training.precision):
            return self._problem.loss(model, to_device(batch, device))


def measure_run(experiment: Experiment, folder: RunFolder, steps: Sequence[int] | None) -> Iterator[NoiseMeasurement]:
    """Measure the noise at the initialization and at checkpoints of a run; see ``measure_saved_states``."""
    record = NoiseRecord(folder.path)
    for _, measurement in measure_saved_states(
        experiment, folder, steps, lambda state: NoiseMeter(experiment, state.problem, record)
    ):
        yield measurement
