"""Reading the noise measurements of run folders back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..configs.load import load_experiment
from ..configs.schema import Experiment
from ..errors import UserError
from ..noise.record import NoiseRecord

Kind = Literal["batch", "example"]
Array = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """The noise of the whole model at one step.

    Attributes:
        norms: ``[samples]``.
        running_variance: ``[orders, samples]``.
        gaussian_norms: norms of Gaussian surrogates, ``[surrogates, samples]``.
        sketch_norms: norms that are to be compared with the surrogates', ``[samples]``.
    """

    norms: Array
    running_variance: Array
    gaussian_norms: Array
    sketch_norms: Array


@dataclass(frozen=True)
class NoiseRun:
    """The noise measurements of one run folder.

    Attributes:
        path: the folder.
        experiment: its config.
        kind: whether it is about mini-batches or about single examples.
        steps: the measured steps, in order.
    """

    path: Path
    experiment: Experiment
    kind: Kind
    steps: tuple[int, ...]

    def samples(self, step: int) -> Samples:
        """The raw samples of a measured step.

        Raises:
            UserError: they cannot be read, or there are none of this kind.
        """
        arrays = NoiseRecord(self.path).samples(step)
        if f"{self.kind}_norms" not in arrays:
            raise UserError(f"{self.path}: there are no single-example gradients of step {step}; set noise.examples")
        names = ("norms", "running_variance", "gaussian_norms", "sketch_norms")
        norms, *others = (arrays[f"{self.kind}_{name}"] for name in names)
        norms = norms[:, arrays["scopes"].tolist().index("all")]
        if not np.ptp(norms):
            raise UserError(f"{self.path}: the gradients of step {step} have no noise")
        return Samples(norms, *others)

    def effective_dimension(self, step: int) -> float:
        """That of the whole model's noise at a measured step."""
        return float(self.rows(step, "effective_dimension")["all"]["value"])

    def measured_step(self, step: int | None) -> int:
        """The step itself, or the last measured one for None.

        Raises:
            UserError: it was not measured.
        """
        if step is not None and step not in self.steps:
            raise UserError(f"{self.path}: no noise of step {step}; there are {', '.join(map(str, self.steps))}")
        return self.steps[-1] if step is None else step

    def rows(self, step: int, statistic: str) -> dict[str, dict[str, str]]:
        """The rows of one statistic, as text by column, by scope in the order of the model."""
        return {
            row["scope"]: row
            for row in NoiseRecord(self.path).rows()
            if (int(row["step"]), row["statistic"]) == (step, statistic)
            and (row["batch_size"] == "1") == (self.kind == "example")
        }


def find_noise(paths: Iterable[Path], kind: Kind) -> list[NoiseRun]:
    """The runs with noise measurements at or below some folders, in order of path.

    Raises:
        UserError: there is none, or its config cannot be read.
    """
    paths = list(paths)
    folders = sorted({table.parent for path in paths for table in [*path.glob("noise.csv"), *path.rglob("noise.csv")]})
    runs = [
        NoiseRun(folder, load_experiment(folder / "config.yaml"), kind, tuple(steps))
        for folder in folders
        if (steps := NoiseRecord(folder).steps())
    ]
    if not runs:
        raise UserError(f"{', '.join(map(str, paths))}: no noise measurement here; see `whyadam noise --help`")
    return runs
