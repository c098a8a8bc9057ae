"""The training loop, top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from ..configs.schema import Experiment
from ..data.batches import BatchOrder, training_batches
from ..seeds import derive_seed
from ..tasks.problem import Problem
from .checkpoints import Checkpoints
from .compilation import CompiledProblem
from .evaluation import evaluate
from .interruption import Interruption
from .recorder import Recorder
from .schedule import learning_rate_factor, number_of_steps
from .state import TrainingState
from .step import take_step


class Meter(Protocol):
    """Measures something on the way that changes nothing of what comes after."""

    def measure_if_due(self, step: int) -> None:
        """Measure if the config asks for it after ``step`` steps."""
        ...


def train(
    experiment: Experiment,
    problem: Problem,
    state: TrainingState,
    checkpoints: Checkpoints,
    recorder: Recorder,
    meters: Sequence[Meter],
    interruption: Interruption,
) -> str:
    """Take a run from where its state stands to its last step, or to the first signal.

    All that it writes is a function of the experiment alone, wall-clock time aside: each random stream is derived from
    the seed and the step, and nothing that is measured on the way changes what comes after.

    Returns:
        ``done`` or ``interrupted``; a checkpoint of that moment has been written.

    Raises:
        DivergedError: a loss or a gradient was no finite number; what had been written stays.
    """
    settings, seed = experiment.training, experiment.seed
    order = BatchOrder(len(problem.train), settings.batch_size, seed=seed, start_step=state.step)
    steps = number_of_steps(settings, len(problem.train))
    trained = CompiledProblem(problem.model, problem.task) if settings.compile else problem

    if state.step == 0:
        with recorder.measuring():
            recorder.record_evaluation(state, evaluate(problem, settings, seed))
            _measure(meters, 0)
            if 0 in settings.keep_checkpoints:
                checkpoints.save(0, state.to_checkpoint())

    for micro_batches in training_batches(
        problem.train, order, steps, micro_batch_size=settings.micro_batch_size, workers=settings.workers
    ):
        factor = learning_rate_factor(experiment.schedule, state.step, steps)
        for group in state.optimizer.param_groups:
            if "initial_lr" in group:
                group["lr"] = group["initial_lr"] * factor
        torch.manual_seed(derive_seed(seed, "dropout", state.step))

        is_logged = _is_due(state.step + 1, settings.log_every, steps)
        noise_seed = derive_seed(seed, "inject_noise", state.step)
        result = take_step(trained, state.optimizer, micro_batches, settings, measure=is_logged, noise_seed=noise_seed)
        state.step += 1
        state.examples += sum(len(next(iter(batch.values()))) for batch in micro_batches)
        state.tokens += sum(problem.task.tokens(batch) for batch in micro_batches)
        recorder.record_step(state, result)

        with recorder.measuring():
            if _is_due(state.step, settings.eval_every, steps):
                recorder.record_evaluation(state, evaluate(problem, settings, seed))
            _measure(meters, state.step)
            is_asked_for = state.step in settings.keep_checkpoints or interruption.signal is not None
            if is_asked_for or _is_due(state.step, settings.checkpoint_every, steps):
                checkpoints.save(state.step, state.to_checkpoint())
        if interruption.signal is not None and state.step < steps:
            return "interrupted"
    return "done"


def _measure(meters: Sequence[Meter], step: int) -> None:
    for meter in meters:
        meter.measure_if_due(step)


def _is_due(step: int, every: int, steps: int) -> bool:
    return step % every == 0 or step == steps
