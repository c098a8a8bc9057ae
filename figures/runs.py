"""Reading run folders back.

Picking from the rows of a table.
"""

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
from ..training.run_folder import RunFolder, read_status
from .style import OPTIMIZER_LABELS


class HasExperiment(Protocol):
    """Whatever was read from a run folder."""

    @property
    def experiment(self) -> Experiment:
        """The run's config."""
        ...


@dataclass(frozen=True)
class Run:
    """One run folder."""

    path: Path
    experiment: Experiment
    status: dict[str, Any]

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The rows of metrics.csv, as text by column."""
        return read_metrics(self.path / "metrics.csv")

    def curve(self, split: str, column: str = "loss") -> tuple[list[int], list[float]]:
        """Steps and values of one column in the rows of ``split``, where it is not empty."""
        points = [(int(row["step"]), float(row[column])) for row in self.rows if row["split"] == split and row[column]]
        return [step for step, _ in points], [value for _, value in points]


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed."""

    runs: tuple[Run, ...]

    @property
    def experiment(self) -> Experiment:
        """The config of the first of them."""
        return self.runs[0].experiment

    @property
    def optimizer(self) -> str:
        """The registry name of the optimizer."""
        return self.experiment.optimizer.name

    @property
    def lr(self) -> float | None:
        """The learning rate, if the rule has one."""
        return getattr(self.experiment.optimizer, "lr", None)


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """The runs at or below some folders, in order of path.

    Raises:
        UserError: there is no run, or one cannot be read.
    """
    paths = list(paths)
    folders = sorted({metrics.parent for path in paths for metrics in _metrics_below(path)})
    if not folders:
        raise UserError(f"{', '.join(map(str, paths))}: no run folder here (one that holds a metrics.csv)")
    return [_read_run(folder) for folder in folders]


def group_by_setting(runs: Sequence[Run]) -> list[Group]:
    """Runs gathered over their seeds, in the order of their first run."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        without_seed = run.experiment.model_copy(update={"seed": 0})
        groups.setdefault((run.experiment.name, identity(without_seed)), []).append(run)
    return [Group(tuple(members)) for members in groups.values()]


def labels(runs: Sequence[HasExperiment]) -> list[str]:
    """Names of the runs: config and optimizer, and whatever else is not the same in all of them."""
    parts = [_parts(run.experiment) for run in runs]
    shown = [number for number in range(len(parts[0])) if number < 2 or len({part[number] for part in parts}) > 1]
    return [", ".join(part[number] for number in shown if part[number]) for part in parts]


def _parts(experiment: Experiment) -> tuple[str, ...]:
    optimizer = experiment.optimizer
    lr = getattr(optimizer, "lr", None)
    name = OPTIMIZER_LABELS.get(optimizer.name, optimizer.name)
    return experiment.name, name, "" if lr is None else f"lr {lr:g}", f"seed {experiment.seed}"


def _metrics_below(path: Path) -> list[Path]:
    here = path / "metrics.csv"
    return [here] if here.exists() else list(path.rglob("metrics.csv"))


def _read_run(folder: Path) -> Run:
    return Run(folder, RunFolder(folder).read_config(), read_status(folder / "status.json"))


Rows = Sequence[Mapping[str, Any]]
"""Numbers and text by column."""


def select(rows: Rows, **wanted: Any) -> list[Any]:
    """The rows whose columns have these values, in their order."""
    return [row for row in rows if all(row[column] == value for column, value in wanted.items())]


def different(rows: Rows, column: str) -> list[Any]:
    """The values of a column, each once, in order of appearance."""
    return list(dict.fromkeys(row[column] for row in rows))
