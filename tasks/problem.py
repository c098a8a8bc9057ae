"""A problem is a model and a task: the input of training, noise and curvature."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from ..cache import content_digest
from ..data.base import CustomData, Data, DataSettings, Examples, Images, Kind, NoisyQuadratic, Questions, Text
from ..data.digest import data_digest, examples_digest
from ..errors import UserError, one_line
from ..models.base import CustomModel, ModelSettings
from ..seeds import derive_seed

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from .base import Batch, Task, TaskSettings

DATA_TYPES: dict[Kind, type] = {
    "images": Images,
    "text": Text,
    "questions": Questions,
    "quadratics": NoisyQuadratic,
}


@dataclass(frozen=True)
class Problem:
    """A model, the task it learns, and the data that the task is bound to, where they are known."""

    model: nn.Module
    task: Task
    data: Data | None = field(default=None, repr=False)

    @property
    def train(self) -> Examples:
        """The training examples."""
        return self.task.train

    @property
    def evaluation(self) -> Examples:
        """The examples held out."""
        return self.task.evaluation

    @cached_property
    def data_digest(self) -> str:
        """32 hexadecimal digits that change when a training or an evaluation example does (``data.digest``)."""
        if self.data is not None:
            return data_digest(self.data)
        return content_digest(examples_digest(self.train), examples_digest(self.evaluation))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss summed over the batch's terms, in nats, and their number."""
        return self.task.loss(model, batch)


def build_problem(
    model_settings: ModelSettings | CustomModel,
    data_settings: DataSettings | CustomData,
    task_settings: TaskSettings,
    seed: int,
    device: torch.device | str = "cpu",
) -> Problem:
    """Load the data, bind the task to it and build the model, with the same weights on every device.

    Args:
        model_settings: the ``model`` section of a config.
        data_settings: the ``data`` section.
        task_settings: the ``task`` section.
        seed: the experiment's seed; PyTorch's own generator on the CPU is left as it was.
        device: where the model goes.

    Raises:
        UserError: the three do not fit together, or the data cannot be read.
    """
    import torch

    try:
        data = load_data(task_settings, data_settings, seed)
        task = task_settings.bind(data, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "init"))
            model = model_settings.build(task.head)
        if isinstance(model_settings, CustomModel) or isinstance(data_settings, CustomData):
            _try_one_example(model, task)
    except ValueError as error:
        raise UserError(str(error)) from error
    return Problem(model.to(device), task, data)


def bind_task(task_settings: TaskSettings, data_settings: DataSettings | CustomData, seed: int) -> Task:
    """Load the data and bind the task to it, without a model.

    Raises:
        ValueError: the two do not fit together, or the data cannot be read.
    """
    return task_settings.bind(load_data(task_settings, data_settings, seed), seed)


def load_data(task_settings: TaskSettings, data_settings: DataSettings | CustomData, seed: int) -> Data:
    """Load the data that a task is to be bound to.

    Raises:
        ValueError: the two do not fit together, or the data cannot be read.
    """
    data = data_settings.load(seed)
    if not isinstance(data, DATA_TYPES[task_settings.kind]):
        raise ValueError(f"task.name: {task_settings.name} needs {task_settings.kind}, not {type(data).__name__}")
    return data


def _try_one_example(model: nn.Module, task: Task) -> None:
    """What a user wrote is known to fit only when it is run, in both modes; it is left as it was.

    Training is tried on two examples, where there are two: BatchNorm cannot train on one.
    """
    import torch

    from ..models.modules import in_mode

    for training in (False, True):
        try:
            batch = task.train.batch([(0, index) for index in range(min(1 + training, len(task.train)))])
            with in_mode(model, training), torch.random.fork_rng(devices=[]), torch.no_grad():
                # Lazy layers get their sizes in the first pass.
                buffers = [buffer.clone() for buffer in model.buffers()] if training else []
                task.loss(model, batch)
                for buffer, before in zip(model.buffers(), buffers, strict=False):
                    buffer.copy_(before)
        except Exception as error:
            mode = " in training mode" if training else ""
            name, reason = task.head.task, one_line(error)
            raise ValueError(f"the model cannot do {name} on this data{mode}: {reason}") from error
