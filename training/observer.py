"""What happens beside training and changes nothing of it: rows, evaluations, measurements, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..configs.schema import Experiment
from ..tasks.problem import Problem
from ..tasks.settings import Scores
from .checkpoints import Checkpoints
from .evaluation import evaluate
from .interruption import Interrupted, Interruption
from .recorder import Recorder
from .schedule import Due, number_of_steps
from .state import TrainingState


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
        interruption: notices signals, which end evaluations and measurements in the middle.
    """

    experiment: Experiment
    problem: Problem
    checkpoints: Checkpoints
    recorder: Recorder
    meters: Sequence[Meter]
    interruption: Interruption

    def look(self, state: TrainingState) -> None:
        """Do what is due at this step, as far as it has not been done: also where a process begins.

        Raises:
            DivergedError: the loss or what is measured is no finite number.
            Interrupted: a signal has come; a checkpoint has been written, unless the run has not begun to train.
        """
        steps = number_of_steps(self.experiment.training, len(self.problem.train))
        due = Due.after(state.step, steps, self.experiment)
        with self.recorder.measuring():
            try:
                with self.interruption.stopping_at_once():
                    scores = self._scores() if due.evaluation and not self.recorder.has_evaluated(state.step) else None
            except Interrupted:
                if state.step > 0:
                    self._save(state)
                raise
            if scores is not None:
                self.recorder.record_evaluation(state, scores)
            # Before a measurement, which may take minutes: from here on nothing of the run can be lost.
            if due.checkpoint or (due.measurement and state.step > 0):
                self._save(state)
            if due.measurement:
                with self.interruption.stopping_at_once():
                    for meter in self.meters:
                        meter.measure_if_due(state.step)

    def _scores(self) -> Scores:
        return evaluate(self.problem, self.experiment.training, self.experiment.seed)

    def _save(self, state: TrainingState) -> None:
        self.checkpoints.save(state.step, state.to_checkpoint())
