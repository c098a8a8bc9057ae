"""What happens beside training and changes nothing of it: rows, evaluations, measurements, checkpoints.

Scoring a model without leaving a trace in its training.

What a run writes down as it goes: rows of metrics.csv, status.json, the progress line.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Protocol

import torch

from ..configs.schema import Experiment, Training
from ..data.batches import evaluation_batches
from ..errors import DivergedError
from ..models.modules import in_mode
from ..progress import Progress
from ..seeds import derive_seed
from ..tasks.base import Scores
from ..tasks.problem import Problem
from .checkpoint import Checkpoints, TrainingState
from .devices import autocast, to_device
from .metrics import MetricsFile, MetricsRow
from .run_folder import RunFolder
from .schedules import Due, number_of_steps
from .signals import Interrupted, Interruption
from .step import StepResult


def evaluate(problem: Problem, training: Training, seed: int) -> Scores:
    """Scores over the evaluation part, in eval mode, with a random stream of its own."""
    device = next(problem.model.parameters()).device
    torch.manual_seed(derive_seed(seed, "evaluation"))
    batches = evaluation_batches(problem.evaluation, training.eval_batch_size, limit=training.eval_examples)
    with in_mode(problem.model, training=False), torch.inference_mode(), autocast(device, training.precision):
        return problem.task.evaluate(problem.model, (to_device(batch, device) for batch in batches))


class Recorder:
    """Turns what the loop sees into rows, and keeps training time apart from measuring time.

    Args:
        folder: the run's folder, for status.json.
        metrics: the open metrics.csv; the clock goes on from the time of its last row.
        progress: the bar.
        epoch_length: training examples in one epoch.
    """

    def __init__(self, folder: RunFolder, metrics: MetricsFile, progress: Progress, epoch_length: int) -> None:
        self._folder = folder
        self._metrics = metrics
        self._progress = progress
        self._epoch_length = epoch_length
        self._training_since = time.perf_counter() - metrics.last_seconds
        self._paused_at: float | None = None
        self._measuring = float(folder.read_status().get("seconds_measuring", 0.0))
        trained, evaluated = metrics.earlier_losses("train"), metrics.earlier_losses("eval")
        self._losses = {
            "last_train_loss": trained[-1] if trained else None,
            "last_eval_loss": evaluated[-1] if evaluated else None,
            "best_eval_loss": min(evaluated, default=None),
        }

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Time spent in this block is not training time."""
        self._paused_at = start = time.perf_counter()
        try:
            yield
        finally:
            self._paused_at = None
            spent = time.perf_counter() - start
            self._measuring += spent
            self._training_since += spent

    def record_step(self, state: TrainingState, result: StepResult) -> None:
        """Take note of a step; write a training row if the step was measured.

        Raises:
            DivergedError: the loss or the gradient of this step, or of one since the last row, is not finite.
        """
        state.losses.append(torch.where(result.is_finite, result.loss, torch.nan))
        is_cheap_to_look = result.loss.device.type == "cpu"
        if is_cheap_to_look and not result.is_finite:
            raise DivergedError(f"step {state.step}: the loss or the gradient is no finite number")
        if result.update_norm is not None:
            loss = float(torch.stack(state.losses).mean())
            state.losses.clear()
            self._record(
                state,
                "train",
                loss,
                lr=state.optimizer.param_groups[0].get("lr"),
                grad_norm=float(result.grad_norm),
                update_norm=float(result.update_norm),
                clip_fraction=None if result.clip_fraction is None else float(result.clip_fraction),
            )
            self._losses["last_train_loss"] = loss
            self._progress.note(loss=loss)
        self._progress.advance()

    def has_evaluated(self, step: int) -> bool:
        """Whether the row of an evaluation at this step was there already when the process began."""
        return self._metrics.had(step, "eval")

    def record_evaluation(self, state: TrainingState, scores: Scores) -> None:
        """Write an evaluation row.

        Raises:
            DivergedError: the loss is not finite.
        """
        self._record(state, "eval", **asdict(scores))
        best = self._losses["best_eval_loss"]
        self._losses["last_eval_loss"] = scores.loss
        self._losses["best_eval_loss"] = scores.loss if best is None else min(best, scores.loss)
        self._progress.note(eval_loss=scores.loss)
        self.write_status(state, "running")

    def write_status(self, state: TrainingState, name: str, **more: object) -> None:
        """Bring status.json up to date; ``name`` is the run's state."""
        seconds = {"seconds_training": self._seconds(), "seconds_measuring": self._measuring}
        rounded = {key: round(value, 3) for key, value in seconds.items()}
        self._folder.write_status(state=name, step=state.step, **self._losses, **rounded, **more)

    def _record(self, state: TrainingState, split: str, loss: float, **columns: float | None) -> None:
        if not math.isfinite(loss):
            raise DivergedError(f"step {state.step}: the {split} loss is no finite number")
        row = MetricsRow(
            step=state.step,
            epoch=state.examples / self._epoch_length,
            examples=state.examples,
            tokens=state.tokens or None,
            split=split,
            loss=loss,
            seconds=round(self._seconds(), 3),
            **columns,
        )
        self._metrics.append(row)
        state.rows += 1

    def _seconds(self) -> float:
        now = time.perf_counter() if self._paused_at is None else self._paused_at
        return now - self._training_since


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
