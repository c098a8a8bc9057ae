"""The curvature of a run, measured while it trains or afterwards from its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial

from torch.optim import Optimizer

from ..configs.schema import Experiment
from ..errors import DivergedError, UserError
from ..hessian.measure import fixed_batches, measure_hessian
from ..hessian.record import HessianRecord
from ..hessian.settings import HessianSettings, Moment
from ..optimizers import build_optimizer
from ..progress import track
from ..tasks.base import Batch
from ..tasks.problem import Problem, build_problem
from .checkpoint import Visit, revisit
from .devices import to_device
from .run_folder import RunFolder
from .schedules import number_of_steps


class HessianMeter:
    """Measures and records the curvature of a problem at its present weights.

    Args:
        experiment: its ``hessian`` section says when and what; without one, nothing is ever due.
        problem: the model and its task.
        record: where the results go.
        optimizer: what trains the model; None before the first step.
    """

    def __init__(
        self, experiment: Experiment, problem: Problem, record: HessianRecord, optimizer: Optimizer | None
    ) -> None:
        self._settings = experiment.hessian or HessianSettings()
        self._is_wanted = experiment.hessian is not None
        self._last_step = number_of_steps(experiment.training, len(problem.train))
        self._seed = experiment.seed
        self._build = partial(build_problem, experiment.model, experiment.data, experiment.task, experiment.seed)
        self._problem = problem
        self._record = record
        self._optimizer = optimizer

    def measure_if_due(self, step: int) -> None:
        """Measure if the config asks for it after ``step`` steps.

        Raises:
            DivergedError: the loss or a product with the Hessian is no finite number.
            UserError: the settings do not fit the model or the data.
        """
        if self._is_wanted and self._settings.is_due(step, self._last_step):
            try:
                self.measure(step)
            except FloatingPointError as error:
                raise DivergedError(f"step {step}: {error}") from error

    def measure(self, step: int) -> None:
        """Measure and record; weights, running statistics and random streams of the training stay as they are.

        Raises:
            FloatingPointError: the loss or a product with the Hessian is no finite number.
            UserError: the settings do not fit the model or the data.
        """
        measure_hessian(
            self._problem.model,
            self._problem.loss,
            self._batches,
            self._settings,
            self._record,
            step=step,
            seed=self._seed,
            optimizer=self._optimizer,
            build=self._build,
            track=lambda label, items, total: track(f"curvature at step {step}, {label}", items, total),
        )

    @cached_property
    def _batches(self) -> list[Batch]:
        device = next(self._problem.model.parameters()).device
        return [to_device(batch, device) for batch in fixed_batches(self._problem.train, self._settings, self._seed)]


def measure_run(experiment: Experiment, folder: RunFolder, moments: Sequence[Moment] | None) -> Iterator[int]:
    """Measure the curvature at the initialisation and at checkpoints of a run, into its folder.

    Args:
        experiment: the run's config, perhaps with another ``hessian`` section.
        folder: the run folder; without checkpoints there is the initialisation to measure.
        moments: steps or percentages; 0 is the initialisation, None stands for all that there are.

    Yields:
        The step of each measurement, once it is recorded.

    Raises:
        RunBusyError: another living process works in the folder.
        UserError: a checkpoint is missing, the loss is no finite number, or the settings do not fit.
    """
    for visit in revisit(experiment, folder, moments):
        meter = HessianMeter(experiment, visit.problem, HessianRecord(folder.path), _optimizer(experiment, visit))
        try:
            meter.measure(visit.step)
        except FloatingPointError as error:
            raise UserError(f"{folder.path}: curvature at step {visit.step}: {error}") from error
        yield visit.step


def _optimizer(experiment: Experiment, visit: Visit) -> Optimizer | None:
    """The optimizer as it was at that moment."""
    if visit.checkpoint is None:
        return None
    optimizer = build_optimizer(experiment.optimizer, visit.problem.model.named_parameters())
    optimizer.load_state_dict(visit.checkpoint["optimizer"])
    return optimizer
