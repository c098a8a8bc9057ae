"""The ``hessian`` section of a config; imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, StringConstraints

from ..settings import Settings

Percentage = Annotated[str, StringConstraints(pattern=r"^(100|\d{1,2}(\.\d+)?)%$")]

Moment = NonNegativeInt | Percentage
"""A number of optimizer steps, or a percentage of the run such as ``100%``."""


BatchNorm = Literal["running", "calibrated", "batch"]
"""What BatchNorm layers normalise by, see ``batch_norm``."""


class HessianSettings(Settings):
    """When the curvature of a run is measured, on which examples and blocks, and how exact.

    Attributes:
        every: steps between measurements, from step 0 on.
        at: further moments, as steps or as percentages of the run; 0, before the first step, by default.
        batches: fixed random batches of the training part over which the loss is the mean.
        batch_size: examples per batch, that is per forward pass.
        blocks: how the parameters are cut: ``weights`` (one block per weight matrix, attention cut into query, key and
            value; no biases, no normalisation), ``default`` (the same with them), ``heads``, ``neurons`` or ``full``;
            or one or several globs for names of the default partition.
        full: also measure the spectrum of the full Hessian.
        adam: also measure each block preconditioned by Adam.
        tolerance: Jensen–Shannon distance to the true density at which to stop, for densities smoothed with 1 % of
            their range. ``null`` is the published scheme: each probe alone, exactly ``steps`` steps.
        steps: Lanczos steps; with a tolerance, at most.
        probes: independent probes; with a tolerance, at most.
        batch_norm: what BatchNorm layers normalise by: ``running`` statistics, as in evaluation; statistics
            ``calibrated`` on the measured batches; or those of each ``batch``, as in training. By default calibrated at
            step 0, where running statistics are not those of any data, and running later.
        processes: on a CPU, blocks measured at a time, each in a process with one thread. Not part of a run's
            identity: it changes no number.
    """

    every: PositiveInt | None = None
    at: tuple[Moment, ...] = (0,)
    batches: PositiveInt = 1
    batch_size: PositiveInt = 32
    blocks: str | tuple[str, ...] = "weights"
    full: bool = False
    adam: bool = False
    tolerance: Annotated[float, Field(gt=0, lt=1)] | None = 0.04
    steps: PositiveInt = 100
    probes: PositiveInt = 10
    batch_norm: BatchNorm | None = None
    processes: Annotated[int, Field(ge=1, le=256)] = 1

    def is_due(self, step: int, last_step: int) -> bool:
        """Whether the curvature is measured after ``step`` steps of a run that has ``last_step`` of them."""
        is_regular = self.every is not None and step % self.every == 0
        return is_regular or step in (step_at(moment, last_step) for moment in self.at)

    def batch_norm_at(self, step: int) -> BatchNorm:
        """What BatchNorm layers normalise by in a measurement after ``step`` steps."""
        return self.batch_norm or ("running" if step else "calibrated")


def step_at(moment: Moment, last_step: int) -> int:
    """The number of steps that a moment stands for in a run of ``last_step`` steps; a share is rounded."""
    return moment if isinstance(moment, int) else round(float(moment.removesuffix("%")) / 100 * last_step)
