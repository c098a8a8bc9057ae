"""The typed model of one experiment: every key of a config file is a field here or in a package's settings class.

Parts that do not fit together are refused before anything heavy is imported or downloaded. A check knows only what the
settings say of themselves; a user's own class says nothing and passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, PositiveInt, StringConstraints, model_validator

from ..data import DATA
from ..data.base import CustomData, DataSettings
from ..data.noise_laws import NOISE_LAWS, NoiseLaw
from ..errors import UserError
from ..hessian.settings import HessianSettings
from ..models import MODELS, CustomModel, ModelSettings
from ..noise.settings import NoiseSettings
from ..optimizers.registry import OPTIMIZERS, CustomOptimizer, OptimizerSettings
from ..settings import Settings
from ..tasks import TASKS
from ..tasks.base import TaskSettings

if TYPE_CHECKING:
    AnyModel = ModelSettings | CustomModel
    AnyData = DataSettings | CustomData
    AnyOptimizer = OptimizerSettings | CustomOptimizer
    AnyTask = TaskSettings
    AnyNoiseLaw = NoiseLaw
else:
    AnyModel, AnyData, AnyOptimizer, AnyTask, AnyNoiseLaw = (
        registry.as_field() for registry in (MODELS, DATA, OPTIMIZERS, TASKS, NOISE_LAWS)
    )

RunName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class Schedule(Settings):
    """The learning rate over the run: a linear warm-up, then the named decay to ``final`` times the full rate."""

    name: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    final: Annotated[float, Field(ge=0, le=1)] = 0.0


class InjectedNoise(Settings):
    """Noise that is added to the gradient of each step.

    Attributes:
        law: of each coordinate.
        scale: median norm of the noise over the norm of that step's gradient.
    """

    law: AnyNoiseLaw
    scale: Annotated[float, Field(gt=0)] = 1.0


class Training(Settings):
    """How long to train, in batches of which size, and what to record on the way.

    Attributes:
        steps: optimizer steps; give this or ``epochs``.
        epochs: passes over the training part.
        batch_size: examples per step, or ``full`` for the whole training part in each step.
        micro_batch_size: examples per forward pass; their gradients add up exactly to the batch's.
        eval_every: steps between evaluations; there is always one before the first step and one after the last.
        eval_batch_size: examples per forward pass in evaluation.
        eval_examples: at most that many examples of the evaluation part, the first ones; all by default.
        log_every: steps between training rows of metrics.csv; a row's loss is the mean over the steps since the last.
        checkpoint_every: steps between checkpoints; the last two stay.
        keep_checkpoints: steps whose checkpoint is written and stays.
        precision: number format of the forward pass.
        compile: training through ``torch.compile``, which takes a minute to start and needs a C++ compiler; evaluation
            and measurements use the model as it is.
        activation_checkpointing: compute activations again in the backward pass instead of keeping them; for the
            models of transformers. Not part of a run's identity: it changes no number.
        shard: with several processes, each holds its share of the weights and of the optimizer state (FSDP). Not part
            of a run's identity.
        clip_grad_norm: largest global gradient norm, applied before any optimizer's own rule; none by default.
        inject_noise: noise of a known law on each step's gradient, before any clipping; none by default.
        device: where to train; ``auto`` is a GPU where there is one. Not part of a run's identity.
        workers: processes that prepare batches. Not part of a run's identity: it changes no number.
    """

    steps: PositiveInt | None = None
    epochs: PositiveInt | None = None
    batch_size: PositiveInt | Literal["full"] = 32
    micro_batch_size: PositiveInt | None = None
    eval_every: PositiveInt = 100
    eval_batch_size: PositiveInt = 64
    eval_examples: PositiveInt | None = None
    log_every: PositiveInt = 10
    checkpoint_every: PositiveInt = 100
    keep_checkpoints: tuple[Annotated[int, Field(ge=0)], ...] = ()
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    activation_checkpointing: bool = False
    shard: bool = False
    clip_grad_norm: Annotated[float, Field(gt=0)] | None = None
    inject_noise: InjectedNoise | None = None
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    workers: Annotated[int, Field(ge=0, le=64)] = 0

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is None and self.epochs is None:
            raise ValueError("give either training.steps or training.epochs")
        if self.steps is not None and self.epochs is not None:
            raise ValueError(
                "give either training.steps or training.epochs; training.steps=null leaves the number to the epochs"
            )
        return self


class Experiment(Settings):
    """One run: what is trained on what, by which rule, for how long, from which seed.

    ``seed`` is split by axis (initialisation, data order, dropout, masks); the optimizer changes none of them.
    """

    name: RunName
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    model: AnyModel
    data: AnyData
    task: AnyTask
    optimizer: AnyOptimizer
    schedule: Schedule = Schedule()
    training: Training
    noise: NoiseSettings | None = None
    hessian: HessianSettings | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_combination(self)
        if self.noise is not None:
            self.noise.examples_per_batch(self.training.batch_size)
        return self


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


def check_length(experiment: Experiment, steps: int) -> None:
    """Refuse an experiment that asks for something after the last step; with ``epochs`` only the data says which it is.

    Raises:
        UserError: one line that begins with the key to change.
    """
    if experiment.schedule.warmup_steps > steps:
        raise UserError(
            f"schedule.warmup_steps: {experiment.schedule.warmup_steps} is more than the run's {steps} steps"
        )
    moments = {
        "training.keep_checkpoints": experiment.training.keep_checkpoints,
        "noise.at": () if experiment.noise is None else experiment.noise.at,
        "hessian.at": () if experiment.hessian is None else experiment.hessian.at,
    }
    for key, at in moments.items():
        for moment in at:
            if isinstance(moment, int) and moment > steps:
                raise UserError(f"{key}: {moment} is beyond the last step, {steps}")


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
