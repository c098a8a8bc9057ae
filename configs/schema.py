"""The typed model of one experiment; every key of a config file is a field here or in a room's settings class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from ..data.noise_laws import NOISE_LAWS
from ..data.registry import DATA
from ..hessian.settings import HessianSettings
from ..models.registry import MODELS
from ..noise.settings import NoiseSettings
from ..optimizers.registry import OPTIMIZERS
from ..settings import Settings
from ..tasks.registry import TASKS
from .checks import check_combination

if TYPE_CHECKING:
    from ..data.noise_laws import NoiseLaw
    from ..data.settings import CustomData, DataSettings
    from ..models.settings import CustomModel, ModelSettings
    from ..optimizers.settings import CustomOptimizer, OptimizerSettings
    from ..tasks.settings import TaskSettings

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
PositiveInt = Annotated[int, Field(ge=1)]


class Schedule(Settings):
    """The learning rate over the run: a linear rise, then the named course down to ``final`` times the full rate."""

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
    """How long to train, on what portions, and what to write down on the way.

    Attributes:
        steps: optimizer steps; give this or ``epochs``.
        epochs: passes over the training part.
        batch_size: examples a step, or ``full`` for the whole training part in each step.
        micro_batch_size: examples a forward pass; their gradients add up exactly to the batch's.
        eval_every: steps between evaluations; there is always one before the first step and one after the last.
        eval_batch_size: examples a forward pass in evaluation.
        eval_examples: at most that many examples of the evaluation part, the first ones; all by default.
        log_every: steps between training rows of metrics.csv; a row's loss is the mean over the steps since the last.
        checkpoint_every: steps between checkpoints; the last two stay.
        keep_checkpoints: steps whose checkpoint is written and stays.
        precision: number format of the forward pass.
        compile: training through ``torch.compile``, which takes a minute to start and needs a C++ compiler; evaluation
            and measurements use the model as it is.
        activation_checkpointing: compute activations again in the backward pass instead of keeping them; for the
            models of transformers. Not part of a run's identity: it changes no number.
        shard: with several processes, each holds its share alone of the weights and of what the optimizer remembers;
            one process holds all of it anyway. Not part of a run's identity.
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
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either training.steps or training.epochs")
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
