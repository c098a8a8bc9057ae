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
    """When the gradient noise of a run is measured, and on what.

    Attributes:
        every: steps between measurements; the first of them is before the first step.
        at: further steps; 0, before the first step, unless given.
        batches: mini-batches, hence noise samples, of one measurement.
        batch_size: examples in each of them; ``training.batch_size`` unless given.
        reference: what the noise is the distance from: the gradient over the ``full`` training part, or over that many
            batches.
        mode: whether dropout is on and BatchNorm uses each batch's own statistics (``train``), or neither (``eval``).
        examples: how many gradients of single examples are measured besides. A model with BatchNorm is in eval mode
            for them.
        coordinates: of each layer and of the whole model, at most that many random coordinates of the noise are kept.
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
        """The size of a mini-batch.

        Raises:
            UserError: it is not given, and training takes the full batch, whose gradient has no noise; or it is 1 and
                single examples are asked for besides.
        """
        size = self.batch_size or training_batch_size
        if size == "full":
            raise UserError("noise.batch_size: missing; training takes the full batch, whose gradient has no noise")
        if size == 1 and self.examples:
            raise UserError("noise.examples: the mini-batches are single examples already; leave it at 0")
        return size
