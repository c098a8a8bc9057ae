"""Reading the curvature measurements of run folders back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..configs.load import load_experiment
from ..configs.schema import Experiment
from ..errors import UserError
from ..hessian.pairs import DistanceRow
from ..hessian.record import HessianRecord
from ..hessian.spectrum import Spectrum
from ..hessian.summary import FULL, ModelRow
from .runs import labels


@dataclass(frozen=True)
class HessianRun:
    """The curvature measurements of one run folder.

    Attributes:
        path: the folder.
        experiment: its config.
        steps: the measured steps, in order.
    """

    path: Path
    experiment: Experiment
    steps: tuple[int, ...]

    def measured_steps(self, step: int | None) -> tuple[int, ...]:
        """The step itself, or all measured ones for None.

        Raises:
            UserError: it was not measured.
        """
        if step is not None and step not in self.steps:
            raise UserError(f"{self.path}: no curvature of step {step}; there are {', '.join(map(str, self.steps))}")
        return self.steps if step is None else (step,)

    def full(self, step: int) -> Spectrum | None:
        """The spectrum of the whole Hessian at a measured step; None where it was not measured."""
        return self._record.spectra(step).get(FULL)

    def blocks(self, step: int, *, adam: bool = False) -> dict[str, Spectrum]:
        """The spectra of the blocks at a measured step, by name in the order of the network.

        Args:
            step: which step.
            adam: as Adam's preconditioner makes them.

        Raises:
            UserError: they cannot be read, or were not measured.
        """
        if adam and not self._record.how(step).get("adam"):
            raise UserError(
                f"{self.path}: no preconditioned blocks of step {step}; measure them with -s hessian.adam=true"
            )
        spectra = self._record.spectra(step, adam=adam)
        if len(spectra) > 1:
            spectra.pop(FULL, None)
        return spectra

    def distances(self, step: int, *, adam: bool = False) -> list[DistanceRow]:
        """The distances between the blocks at a measured step; arguments and errors as for ``blocks``."""
        return self._record.distances(step, adam=adam)

    def measures(self, step: int) -> list[ModelRow]:
        """The measures of the whole model at a measured step."""
        return self._record.model(step)

    @property
    def _record(self) -> HessianRecord:
        return HessianRecord(self.path)


def find_hessian(paths: Iterable[Path]) -> list[HessianRun]:
    """The runs with curvature measurements at or below some folders, in order of path.

    Raises:
        UserError: there is none, or its config cannot be read.
    """
    paths = list(paths)
    found = {place.parent for path in paths for place in [*path.glob("hessian"), *path.rglob("hessian")]}
    runs = [
        HessianRun(folder, load_experiment(folder / "config.yaml"), tuple(steps))
        for folder in sorted(found)
        if (steps := HessianRecord(folder).steps())
    ]
    if not runs:
        raise UserError(f"{', '.join(map(str, paths))}: no curvature measurement here; see `whyadam hessian --help`")
    return runs


def moments(runs: Sequence[HessianRun], step: int | None) -> list[tuple[HessianRun, int, str]]:
    """Runs with each of their measured steps, or with one of them, and what to call that.

    Raises:
        UserError: a run has no measurement of ``step``.
    """
    return [
        (run, measured, f"{name}, step {measured}")
        for run, name in zip(runs, labels(runs), strict=True)
        for measured in run.measured_steps(step)
    ]


def short_names(blocks: Sequence[str]) -> list[str]:
    """Names of blocks for narrow places: without what all of them begin with, and without the word weight."""
    parts = [[part for part in name.split(".") if part != "weight"] for name in blocks]
    if len({tuple(name) for name in parts}) < len(blocks):
        parts = [name.split(".") for name in blocks]
    while all(len(name) > 1 for name in parts) and len({name[0] for name in parts}) == 1:
        parts = [name[1:] for name in parts]
    return [".".join(name) for name in parts]
