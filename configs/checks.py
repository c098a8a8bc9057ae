"""Combinations that cannot work, refused before anything heavy is imported or downloaded.

Every check knows only what the settings say of themselves; a user's own class says nothing and passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..data.settings import CustomData
from ..models.settings import CustomModel

if TYPE_CHECKING:
    from .schema import Experiment


def check_combination(experiment: Experiment) -> None:
    """Refuse an experiment whose parts do not fit together.

    Raises:
        ValueError: one line that begins with the key to change.
    """
    _check_task_fits_data(experiment)
    _check_model_fits_task(experiment)
    _check_model_fits_examples(experiment)
    _check_lengths(experiment)
    _check_sharding(experiment)


def _check_task_fits_data(experiment: Experiment) -> None:
    data, task = experiment.data, experiment.task
    if not isinstance(data, CustomData) and data.kind != task.kind:
        raise ValueError(f"task.name: {task.name} needs {task.kind}, but data.name {data.name} gives {data.kind}")


def _check_model_fits_task(experiment: Experiment) -> None:
    model, task = experiment.model, experiment.task
    if not isinstance(model, CustomModel) and task.name not in model.tasks:
        known = ", ".join(sorted(model.tasks))
        raise ValueError(f"task.name: the model {model.name} cannot do {task.name}; it can do {known}")


def _check_model_fits_examples(experiment: Experiment) -> None:
    model, data, task = experiment.model, experiment.data, experiment.task
    if isinstance(model, CustomModel):
        return
    image_size = getattr(data, "image_size", None)
    if image_size is not None and (refusal := model.refuse_images(image_size)):
        raise ValueError(refusal)
    context = model.context_length()
    for section, key in ((data, "data.block_size"), (task, "task.max_length")):
        length = getattr(section, key.split(".")[1], None)
        if context is not None and length is not None and length > context:
            raise ValueError(f"{key}: {length} tokens are more than the context of {model.name}, {context}")


def _check_lengths(experiment: Experiment) -> None:
    training, schedule = experiment.training, experiment.schedule
    if training.steps is not None and schedule.warmup_steps > training.steps:
        raise ValueError(
            f"schedule.warmup_steps: {schedule.warmup_steps} is more than training.steps, {training.steps}"
        )
    if training.batch_size == "full":
        if training.micro_batch_size is None:
            raise ValueError("training.micro_batch_size: say how many examples a forward pass of the full batch takes")
    elif training.micro_batch_size is not None and training.micro_batch_size > training.batch_size:
        raise ValueError(
            f"training.micro_batch_size: {training.micro_batch_size} is more than training.batch_size, "
            f"{training.batch_size}"
        )


def _check_sharding(experiment: Experiment) -> None:
    training = experiment.training
    for key in ("compile", "inject_noise"):
        if training.shard and getattr(training, key):
            raise ValueError(f"training.shard: goes without training.{key}; leave one of them out")
