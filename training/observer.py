"""What happens beside training and changes nothing of it: rows, evaluations, measurements, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..configs.schema import Experiment
from ..tasks.problem import Problem
from .checkpoints import Checkpoints
from .evaluation import evaluate
from .recorder import Recorder
from .schedule import is_due, number_of_steps
from .state import TrainingState
from .step import StepResult


class Meter(Protocol):
    """Measures something on the way that changes nothing of what comes after."""

    def measure_if_due(self, step: int) -> None:
        """Measure if the config asks for it after ``step`` steps."""
        ...


@dataclass(frozen=True)
class Observer:
    """Looks at a run between its steps and writes down what the config asks for.

    Attributes:
        experiment: the config.
        problem: the model and its task.
        checkpoints: those of the run folder.
        recorder: writes rows and the status.
        meters: what else is measured.
    """

    experiment: Experiment
    problem: Problem
    checkpoints: Checkpoints
    recorder: Recorder
    meters: Sequence[Meter]

    def begin(self, state: TrainingState) -> None:
        """Before the first step.

        Raises:
            DivergedError: the loss or what is measured is no finite number.
        """
        with self.recorder.measuring():
            self._evaluate(state)
            self._measure(0)
            if 0 in self.experiment.training.keep_checkpoints:
                self.checkpoints.save(0, state.to_checkpoint())

    def after_step(self, state: TrainingState, result: StepResult, *, is_last: bool) -> None:
        """After each step; ``is_last`` where the process ends with it, in the middle of the run or not.

        Raises:
            DivergedError: a loss, the gradient or what is measured is no finite number.
        """
        settings = self.experiment.training
        steps = number_of_steps(settings, len(self.problem.train))
        self.recorder.record_step(state, result)
        with self.recorder.measuring():
            if is_due(state.step, settings.eval_every, steps):
                self._evaluate(state)
            self._measure(state.step)
            is_asked_for = is_last or state.step in settings.keep_checkpoints
            if is_asked_for or is_due(state.step, settings.checkpoint_every, steps):
                self.checkpoints.save(state.step, state.to_checkpoint())

    def _evaluate(self, state: TrainingState) -> None:
        scores = evaluate(self.problem, self.experiment.training, self.experiment.seed)
        self.recorder.record_evaluation(state, scores)

    def _measure(self, step: int) -> None:
        for meter in self.meters:
            meter.measure_if_due(step)
