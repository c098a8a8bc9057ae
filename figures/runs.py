"""Run folders read back: config, status, curves and labels; neither torch nor pandas is imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from ..configs.load import identity
from ..configs.schema import Experiment
from ..errors import UserError
from ..training.metrics import read_metrics
from ..training.run_folder import FINISHED, RunFolder, read_status
from .style import OPTIMIZER_LABELS

Rows = Sequence[Mapping[str, Any]]
"""Rows of a table: numbers and text by column."""


@dataclass(frozen=True)
class Run:
    """One run folder."""

    path: Path
    experiment: Experiment
    status: dict[str, Any]

    @property
    def state(self) -> str:
        """``done``, ``diverged``, or that of an unfinished run."""
        return str(self.status["state"])

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended in a result."""
        return self.state in FINISHED

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The rows of metrics.csv, as text by column."""
        return read_metrics(self.path / "metrics.csv")

    def curve(self, split: str, column: str = "loss") -> tuple[list[int], list[float]]:
        """Steps and values of one column in the rows of ``split``; empty fields are left out."""
        points = [(int(row["step"]), float(row[column])) for row in self.rows if row["split"] == split and row[column]]
        return [step for step, _ in points], [value for _, value in points]


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed."""

    runs: tuple[Run, ...]

    @property
    def experiment(self) -> Experiment:
        """The config of the first run."""
        return self.runs[0].experiment

    @property
    def optimizer(self) -> str:
        """The registry name of the optimizer."""
        return self.experiment.optimizer.name

    @property
    def lr(self) -> float | None:
        """The learning rate, if the optimizer has one."""
        return getattr(self.experiment.optimizer, "lr", None)

    @property
    def compared(self) -> tuple[Run, ...]:
        """The runs that tables and curves show: the finished ones, or if there are none the ones that got furthest."""
        if finished := tuple(run for run in self.runs if run.is_finished):
            return finished
        furthest = max(run.status.get("step") or 0 for run in self.runs)
        return tuple(run for run in self.runs if (run.status.get("step") or 0) == furthest)


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """The runs at or below some folders, in order of path.

    Raises:
        UserError: there is no run, or one cannot be read.
    """
    paths = list(paths)
    # A run folder's own subfolders are not searched.
    found = {
        metrics.parent
        for path in paths
        for metrics in ([path / "metrics.csv"] if (path / "metrics.csv").exists() else path.rglob("metrics.csv"))
    }
    if not found:
        raise UserError(f"{', '.join(map(str, paths))}: no run folder here (one that holds a metrics.csv)")
    return [
        Run(folder, RunFolder(folder).read_config(), read_status(folder / "status.json")) for folder in sorted(found)
    ]


def group_by_setting(runs: Sequence[Run]) -> list[Group]:
    """Runs grouped by everything but the seed, in order of first appearance."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        without_seed = run.experiment.model_copy(update={"seed": 0})
        groups.setdefault((run.experiment.name, identity(without_seed)), []).append(run)
    return [Group(tuple(members)) for members in groups.values()]


class HasExperiment(Protocol):
    """A run with its config, whichever of its files were read."""

    @property
    def experiment(self) -> Experiment:
        """The run's config."""
        ...


def labels(runs: Sequence[HasExperiment]) -> list[str]:
    """Names of runs: config and optimizer, then the learning rate and the seed if the runs differ in them."""
    parts = [_label_parts(run.experiment) for run in runs]
    shown = [number for number in range(len(parts[0])) if number < 2 or len({part[number] for part in parts}) > 1]
    return [", ".join(part[number] for number in shown if part[number]) for part in parts]


def _label_parts(experiment: Experiment) -> tuple[str, ...]:
    optimizer = experiment.optimizer
    lr = getattr(optimizer, "lr", None)
    name = OPTIMIZER_LABELS.get(optimizer.name, optimizer.name)
    return experiment.name, name, "" if lr is None else f"lr {lr:g}", f"seed {experiment.seed}"


def select(rows: Rows, **wanted: Any) -> list[Any]:
    """The rows whose columns have these values, in their order."""
    return [row for row in rows if all(row[column] == value for column, value in wanted.items())]


def different(rows: Rows, column: str) -> list[Any]:
    """The distinct values of a column, in order of appearance."""
    return list(dict.fromkeys(row[column] for row in rows))
