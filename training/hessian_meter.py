"""The curvature of a run, measured while it trains or afterwards at its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial

from torch.optim import Optimizer

from ..configs.schema import Experiment
from ..hessian.measure import fixed_batches, measure_hessian
from ..hessian.record import HessianRecord
from ..hessian.settings import HessianSettings, Moment
from ..optimizers import build_optimizer
from ..progress import track
from ..tasks.base import Batch
from ..tasks.problem import Problem, build_problem
from .checkpoint import SavedState, TrainingState
from .devices import to_device
from .monitor import Meter, measure_saved_states
from .run_folder import RunFolder
from .schedules import number_of_steps


class HessianMeter(Meter[None]):
    """Measures and records the curvature of a problem's loss.

    Args:
        experiment: its ``hessian`` section says when and what; without one, nothing is due.
        problem: the model and its task.
        record: where the results go.
        optimizer: what trains the model; None before the first step.
    """

    quantity = "curvature"

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

    def is_due(self, step: int) -> bool:
        """Whether the config asks for it; a finished measurement is recognized by ``measure_hessian``."""
        return self._is_wanted and self._settings.is_due(step, self._last_step)

    def measure(self, step: int) -> None:
        """Measure at the present weights, into hessian/step_*/."""
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
    """Measure the curvature at the initialization and at checkpoints of a run; see ``measure_saved_states``.

    Yields:
        The step of each measurement, once it is recorded.
    """

    def make_meter(state: SavedState) -> HessianMeter:
        return HessianMeter(experiment, state.problem, HessianRecord(folder.path), _optimizer(experiment, state))

    for step, _ in measure_saved_states(experiment, folder, moments, make_meter):
        yield step


def _optimizer(experiment: Experiment, state: SavedState) -> Optimizer | None:
    """The optimizer with the state it had at that step."""
    if state.checkpoint is None:
        return None
    restored = TrainingState(
        state.problem.model, build_optimizer(experiment.optimizer, state.problem.model.named_parameters())
    )
    restored.restore(state.checkpoint, state.path)
    return restored.optimizer
