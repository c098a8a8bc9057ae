"""The ``noise`` section of a config."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from ..errors import UserError
from ..settings import Settings

Mode = Literal["train", "eval"]

FEWEST_SAMPLES = 8
"""Fewer noise samples say nothing about a tail."""


class NoiseSettings(Settings):
    """When and how the gradient noise of a run is measured.

    Attributes:
        every: steps between measurements; the first of them is before the first step.
        at: further steps; 0, before the first step, unless given.
        batches: mini-batches, hence noise samples, per measurement.
        batch_size: examples per mini-batch; ``training.batch_size`` unless given.
        reference: the noise is g_B minus the gradient over the ``full`` training part, or over that many batches.
        mode: whether dropout is on and BatchNorm uses each batch's own statistics (``train``), or neither (``eval``).
        examples: number of single-example gradients measured besides; a model with BatchNorm is in eval mode for them.
        coordinates: maximum number of random coordinates kept per layer and of the whole model.
    """

    every: PositiveInt | None = None
    at: tuple[NonNegativeInt, ...] = (0,)
    batches: Annotated[int, Field(ge=FEWEST_SAMPLES)] = 64
    batch_size: PositiveInt | None = None
    reference: Literal["full"] | PositiveInt = "full"
    mode: Mode = "train"
    examples: NonNegativeInt = 0
    coordinates: PositiveInt = 500

    @model_validator(mode="after")
    def _enough_examples(self) -> Self:
        if 0 < self.examples < FEWEST_SAMPLES:
            raise ValueError(f"noise.examples: {self.examples} are too few, give 0 or at least {FEWEST_SAMPLES}")
        return self

    def is_due(self, step: int) -> bool:
        """Whether the noise is measured after ``step`` steps."""
        return step in self.at or (self.every is not None and step % self.every == 0)

    def examples_per_batch(self, training_batch_size: int | Literal["full"]) -> int:
        """The number of examples per mini-batch.

        Raises:
            UserError: neither ``batch_size`` nor training names a number; or it is 1 and ``examples`` is not 0.
        """
        size = self.batch_size or training_batch_size
        if size == "full":
            raise UserError("noise.batch_size: missing; training takes the full batch, whose gradient has no noise")
        if size == 1 and self.examples:
            raise UserError("noise.examples: the mini-batches are single examples already; leave it at 0")
        return size
