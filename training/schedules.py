"""The learning-rate schedule, the length of a run, and what is due after a step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..configs.schema import Experiment, Schedule, Training


def learning_rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """The factor on the configured learning rate in step ``step`` (0 … steps − 1) of ``steps``."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    if schedule.name == "constant":
        return 1.0
    progress = (step - schedule.warmup_steps) / max(1, steps - schedule.warmup_steps)
    decay = 1 - progress if schedule.name == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return schedule.final + (1 - schedule.final) * decay


def number_of_steps(training: Training, examples: int) -> int:
    """Optimizer steps of a run over ``examples`` training examples; an epoch drops its last, incomplete batch."""
    if training.steps is not None:
        return training.steps
    steps_per_epoch = 1 if training.batch_size == "full" else examples // training.batch_size
    return steps_per_epoch * (training.epochs or 0)


def is_due(step: int, every: int, steps: int) -> bool:
    """Whether ``step`` of ``steps`` is a multiple of ``every``, or the last one."""
    return step % every == 0 or step == steps


@dataclass(frozen=True)
class Due:
    """What the config asks for after a step, besides training."""

    evaluation: bool
    measurement: bool
    checkpoint: bool

    @classmethod
    def after(cls, step: int, steps: int, experiment: Experiment) -> Due:
        """What is due after ``step`` of ``steps`` steps; 0 is before the first one."""
        settings, noise, hessian = experiment.training, experiment.noise, experiment.hessian
        is_measured = noise is not None and noise.is_due(step)
        is_measured |= hessian is not None and hessian.is_due(step, steps)
        is_saved = step in settings.keep_checkpoints or (step > 0 and is_due(step, settings.checkpoint_every, steps))
        return cls(is_due(step, settings.eval_every, steps), is_measured, is_saved)

    def __bool__(self) -> bool:
        return self.evaluation or self.measurement or self.checkpoint
