"""What happens between training steps and changes nothing of the training: rows, evaluation, measurement, checkpoint.

``Monitor`` decides what is due, ``evaluate`` scores the model, a ``Meter`` measures noise or curvature, and
``Recorder`` writes metrics.csv, status.json and the progress line.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch

from ..configs.schema import Experiment, Training
from ..data.batches import evaluation_batches
from ..errors import DivergedError, UserError
from ..hessian.settings import Moment
from ..models.modules import in_mode
from ..progress import Progress
from ..seeds import derive_seed
from ..tasks.base import Scores
from ..tasks.problem import Problem
from .checkpoint import Checkpoints, SavedState, TrainingState, saved_states
from .devices import autocast, to_device
from .metrics import MetricsFile, MetricsRow
from .run_folder import RunFolder
from .schedules import Due, number_of_steps
from .signals import Interrupted, Interruption
from .step import StepResult

Result = TypeVar("Result")


@dataclass(frozen=True)
class Monitor:
    """Runs the callbacks that are due between two steps.

    Attributes:
        experiment: the config.
        problem: the model and its task.
        checkpoints: those of the run folder.
        recorder: writes rows and the status.
        meters: what else is measured.
        interruption: notices signals, which end evaluations and measurements at once.
    """

    experiment: Experiment
    problem: Problem
    checkpoints: Checkpoints
    recorder: Recorder
    meters: Sequence[Meter[Any]]
    interruption: Interruption

    def run_due_callbacks(self, state: TrainingState) -> None:
        """Evaluate, save and measure what is due at this step and was not done before the process started.

        Raises:
            DivergedError: the loss or a measured quantity is NaN or infinite.
            Interrupted: a signal has come; a checkpoint has been written, unless no step has been taken.
        """
        steps = number_of_steps(self.experiment.training, len(self.problem.train))
        due = Due.after(state.step, steps, self.experiment)
        with self.recorder.measuring():
            try:
                with self.interruption.interruptible():
                    scores = None
                    if due.evaluation and not self.recorder.has_evaluated(state.step):
                        scores = evaluate(self.problem, self.experiment.training, self.experiment.seed)
            except Interrupted:
                if state.step > 0:
                    self._save(state)
                raise
            if scores is not None:
                self.recorder.record_evaluation(state, scores)
            # Before a measurement, which may take minutes.
            if due.checkpoint or (due.measurement and state.step > 0):
                self._save(state)
            if due.measurement:
                with self.interruption.interruptible():
                    for meter in self.meters:
                        meter.measure_if_due(state.step)

    def _save(self, state: TrainingState) -> None:
        self.checkpoints.save(state.step, state.to_checkpoint() | self.recorder.rows())


def evaluate(problem: Problem, training: Training, seed: int) -> Scores:
    """Scores over the evaluation part, in eval mode, with a random stream of its own."""
    device = next(problem.model.parameters()).device
    torch.manual_seed(derive_seed(seed, "evaluation"))
    batches = evaluation_batches(problem.evaluation, training.eval_batch_size, limit=training.eval_examples)
    with in_mode(problem.model, training=False), torch.inference_mode(), autocast(device, training.precision):
        return problem.task.evaluate(problem.model, (to_device(batch, device) for batch in batches))


class Recorder:
    """Writes metrics.csv and status.json, and separates training time from measuring time.

    Args:
        folder: the run folder, for status.json.
        metrics: the open metrics.csv; training time continues from its last row.
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
        """Time spent in this context is not training time."""
        self._paused_at = start = time.perf_counter()
        try:
            yield
        finally:
            self._paused_at = None
            spent = time.perf_counter() - start
            self._measuring += spent
            self._training_since += spent

    def record_step(self, state: TrainingState, result: StepResult) -> None:
        """Keep the loss of a step; write a training row if the step was measured.

        Raises:
            DivergedError: the loss or the gradient of this step, or of one since the last row, is NaN or infinite.
        """
        state.losses.append(torch.where(result.is_finite, result.loss, torch.nan))
        if result.clip_fraction is not None:
            state.clip_fractions.append(result.clip_fraction)
        # On a GPU the check would synchronize; there the next row finds the NaN.
        if result.loss.device.type == "cpu" and not result.is_finite:
            raise DivergedError(f"step {state.step}: the loss or the gradient is NaN or infinite")
        if result.update_norm is not None:
            loss = float(torch.stack(state.losses).mean())
            clip_fraction = float(torch.stack(state.clip_fractions).mean()) if state.clip_fractions else None
            state.losses.clear()
            state.clip_fractions.clear()
            self._write_row(
                state,
                "train",
                loss,
                lr=state.optimizer.param_groups[0].get("lr"),
                grad_norm=float(result.grad_norm),
                update_norm=float(result.update_norm),
                clip_fraction=clip_fraction,
            )
            self._losses["last_train_loss"] = loss
            self._progress.note(loss=loss)
        self._progress.advance()

    def has_evaluated(self, step: int) -> bool:
        """Whether metrics.csv had the evaluation row of this step when the process started."""
        return self._metrics.had(step, "eval")

    def rows(self) -> dict[str, Any]:
        """Number and digest of the rows of metrics.csv, for a checkpoint."""
        return {"rows": self._metrics.rows, "rows_digest": self._metrics.digest}

    def record_evaluation(self, state: TrainingState, scores: Scores) -> None:
        """Write an evaluation row.

        Raises:
            DivergedError: the loss is NaN or infinite.
        """
        self._write_row(state, "eval", **asdict(scores))
        best = self._losses["best_eval_loss"]
        self._losses["last_eval_loss"] = scores.loss
        self._losses["best_eval_loss"] = scores.loss if best is None else min(best, scores.loss)
        self._progress.note(eval_loss=scores.loss)
        self.write_status(state, "running")

    def write_status(self, state: TrainingState, name: str, **more: object) -> None:
        """Update status.json; ``name`` is the run's state."""
        seconds = {"seconds_training": self._seconds(), "seconds_measuring": self._measuring}
        rounded = {key: round(value, 3) for key, value in seconds.items()}
        self._folder.write_status(state=name, step=state.step, **self._losses, **rounded, **more)

    def _write_row(
        self, state: TrainingState, split: Literal["train", "eval"], loss: float, **columns: float | None
    ) -> None:
        if not math.isfinite(loss):
            raise DivergedError(f"step {state.step}: the {split} loss is NaN or infinite")
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

    def _seconds(self) -> float:
        now = time.perf_counter() if self._paused_at is None else self._paused_at
        return now - self._training_since


class Meter(ABC, Generic[Result]):
    """A measurement that leaves weights, buffers and random streams of the training as they are.

    Attributes:
        quantity: what is measured, for messages.
    """

    quantity: ClassVar[str]

    @abstractmethod
    def is_due(self, step: int) -> bool:
        """Whether the config asks for it after ``step`` steps, and it has not been done."""

    @abstractmethod
    def measure(self, step: int) -> Result:
        """Measure at the present weights, and record it.

        Raises:
            FloatingPointError: the loss, a gradient or a Hessian-vector product is NaN or infinite.
            UserError: the settings do not fit the model or the data.
        """

    def measure_if_due(self, step: int) -> None:
        """As ``measure``, but a number that is NaN or infinite is a ``DivergedError``."""
        if self.is_due(step):
            try:
                self.measure(step)
            except FloatingPointError as error:
                raise DivergedError(f"step {step}: {error}") from error


def measure_saved_states(
    experiment: Experiment,
    folder: RunFolder,
    moments: Sequence[Moment] | None,
    make_meter: Callable[[SavedState], Meter[Result]],
) -> Iterator[tuple[int, Result]]:
    """Measure at the initialization and at checkpoints of a run, into its folder; arguments as of ``saved_states``.

    Yields:
        Each step with what was measured, once it is recorded.

    Raises:
        RunBusyError: another living process works in the folder.
        UserError: a checkpoint is missing, a number is NaN or infinite, or the settings do not fit.
    """
    for state in saved_states(experiment, folder, moments):
        meter = make_meter(state)
        try:
            result = meter.measure(state.step)
        except FloatingPointError as error:
            raise UserError(f"{folder.path}: {meter.quantity} at step {state.step}: {error}") from error
        yield state.step, result
