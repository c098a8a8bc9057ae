"""The gradient noise of a run, measured while it trains or afterwards from its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from ..configs.schema import Experiment
from ..errors import DivergedError, UserError
from ..noise.measure import NoiseMeasurement, measure_noise
from ..noise.record import NoiseRecord
from ..noise.settings import NoiseSettings
from ..progress import track
from ..tasks.base import Batch
from ..tasks.problem import Problem
from .checkpoint import revisit
from .devices import autocast, to_device
from .run_folder import RunFolder


class NoiseMeter:
    """Measures and records the noise of a problem's gradients at its present weights.

    Args:
        experiment: its ``noise`` section says when and what; without one, nothing is ever due.
        problem: the model and its task.
        record: where the results go.
    """

    def __init__(self, experiment: Experiment, problem: Problem, record: NoiseRecord) -> None:
        self._settings = experiment.noise or NoiseSettings()
        self._is_wanted = experiment.noise is not None
        self._training = experiment.training
        self._seed = experiment.seed
        self._problem = problem
        self._record = record

    def measure_if_due(self, step: int) -> None:
        """Measure if the config asks for it after ``step`` steps; of a run that goes on, unless it has been done.

        Raises:
            DivergedError: a gradient is no finite number.
            UserError: the settings do not fit the data.
        """
        if self._is_wanted and self._settings.is_due(step) and not (step > 0 and self._record.is_complete(step)):
            try:
                self.measure(step)
            except FloatingPointError as error:
                raise DivergedError(f"step {step}: {error}") from error

    def measure(self, step: int) -> NoiseMeasurement:
        """Measure and record; weights, running statistics and random streams of the training stay as they are.

        Raises:
            FloatingPointError: a gradient is no finite number.
            UserError: the settings do not fit the data.
        """
        measurement = measure_noise(
            self._problem.model,
            self._loss,
            self._problem.train,
            self._settings,
            batch_size=self._settings.examples_per_batch(self._training.batch_size),
            micro_batch_size=self._training.micro_batch_size,
            step=step,
            seed=self._seed,
            track=lambda label, items, total: track(f"noise at step {step}, {label}", items, total),
        )
        self._record.write(step, measurement.rows, measurement.samples)
        return measurement

    def _loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        device = next(model.parameters()).device
        with autocast(device, self._training.precision):
            return self._problem.loss(model, to_device(batch, device))


def measure_run(experiment: Experiment, folder: RunFolder, steps: Sequence[int] | None) -> Iterator[NoiseMeasurement]:
    """Measure the noise at the initialisation and at checkpoints of a run, into its folder.

    Args:
        experiment: the run's config, perhaps with another ``noise`` section.
        folder: the run folder; without checkpoints there is the initialisation to measure.
        steps: which moments; 0 is the initialisation, None stands for all that there are.

    Yields:
        What was measured, as it is written.

    Raises:
        RunBusyError: another living process works in the folder.
        UserError: a checkpoint is missing, a gradient is no finite number, or the settings do not fit the data.
        ValueError: a device is not there.
    """
    for visit in revisit(experiment, folder, steps):
        meter = NoiseMeter(experiment, visit.problem, NoiseRecord(folder.path))
        try:
            yield meter.measure(visit.step)
        except FloatingPointError as error:
            raise UserError(f"{folder.path}: noise at step {visit.step}: {error}") from error
