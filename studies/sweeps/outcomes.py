"""How the runs of a sweep ended, as the run folders tell it.

Which point of a grid is the best of each arm.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ...figures.tuning import is_at_edge
from ...training.run_folder import FINISHED, RunFolder
from .plan import Trial, describe_point

COLUMNS = (
    "run",
    "name",
    "model",
    "data",
    "optimizer",
    "lr",
    "arm",
    "point",
    "seed",
    "state",
    "step",
    "final_eval_loss",
    "best_eval_loss",
    "last_train_loss",
    "seconds_training",
    "seconds_measuring",
    "error",
)


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        trial: what was run.
        folder: its run folder.
        state: ``done``, ``diverged``, ``failed`` or ``interrupted``; the last also where it did not begin.
        error: the line that says why, where there is one.
        loss: final evaluation loss in nats; infinite unless the run is done.
        status: the content of its status.json.
    """

    trial: Trial
    folder: Path
    state: str
    error: str | None
    loss: float
    status: dict[str, Any]

    @classmethod
    def of(cls, trial: Trial, folder: RunFolder, failure: str | None = None) -> Outcome:
        """Read how a run ended.

        Args:
            trial: what was run.
            folder: its run folder.
            failure: the line that says why it failed, if it did.
        """
        status = folder.read_status()
        state = status.get("state")
        if failure is not None:
            return cls(trial, folder.path, "failed", failure, math.inf, status)
        if state not in FINISHED:
            return cls(trial, folder.path, "interrupted", None, math.inf, status)
        loss = status.get("last_eval_loss") if state == "done" else None
        return cls(trial, folder.path, state, status.get("error"), math.inf if loss is None else loss, status)

    @property
    def seconds(self) -> float:
        """Time spent in training and in measuring."""
        return float(self.status.get("seconds_training", 0.0)) + float(self.status.get("seconds_measuring", 0.0))

    def describe(self) -> str:
        """One line."""
        details = {
            "done": f", evaluation loss {self.loss:.4f}, {self.seconds:.1f} s",
            "diverged": f": {self.error}",
            "failed": f": {self.error}",
        }
        return f"{self.trial.describe()}: {self.state}{details.get(self.state, '')}"

    def row(self, out: Path) -> dict[str, object]:
        """The run's row of runs.csv; ``out`` is the folder of that file."""
        experiment, status = self.trial.experiment, self.status
        return {
            "run": self.folder.relative_to(out).as_posix(),
            "name": experiment.name,
            "model": experiment.model.name,
            "data": experiment.data.name,
            "optimizer": experiment.optimizer.name,
            "lr": getattr(experiment.optimizer, "lr", None),
            "arm": self.trial.arm,
            "point": describe_point(self.trial.point),
            "seed": self.trial.seed,
            "state": self.state,
            "step": status.get("step"),
            "final_eval_loss": self.loss,
            **{name: status.get(name) for name in COLUMNS[-5:-1]},
            "error": self.error,
        }


def write_runs(outcomes: Sequence[Outcome], out: Path) -> Path:
    """Write ``runs.csv``, one row a run; rows of other sweeps into the same folder stay."""
    path = out / "runs.csv"
    rows = {row["run"]: row for row in _read_rows(path) if (out / row["run"]).is_dir()}
    new = {str(row["run"]): row for row in (outcome.row(out) for outcome in outcomes)}
    out.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".csv.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows((rows | new).values())
    temporary.replace(path)
    return path


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        return list(reader) if tuple(reader.fieldnames or ()) == COLUMNS else []


@dataclass(frozen=True)
class Chosen:
    """The best point of an arm.

    Attributes:
        arm: its name.
        point: a value by dotted key.
        loss: median over the seeds of the final evaluation loss, in nats; a diverged run counts as infinite.
        tried: how many points there were to choose from.
        at_edge: whether some key with two or more numbers has its least or its largest here, so that a value beyond
            the grid might have been better.
    """

    arm: str
    point: Mapping[str, Any]
    loss: float
    tried: int
    at_edge: bool


def choose(outcomes: Iterable[Outcome]) -> dict[str, Chosen]:
    """The best point of each arm by the median over seeds of the final evaluation loss; the first of equal ones.

    An arm with a run that has not ended as done or diverged is left out: what is missing might have been the best.
    """
    arms: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        arms.setdefault(outcome.trial.arm, []).append(outcome)
    return {arm: _choose(arm, members) for arm, members in arms.items() if all(map(_is_result, members))}


def by_point(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes of one arm, gathered over their seeds."""
    points: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        points.setdefault(describe_point(outcome.trial.point), []).append(outcome)
    return points


def _is_result(outcome: Outcome) -> bool:
    return outcome.state in ("done", "diverged")


def _choose(arm: str, outcomes: Sequence[Outcome]) -> Chosen:
    points = by_point(outcomes).values()
    losses = [median(outcome.loss for outcome in members) for members in points]
    loss, members = min(zip(losses, points, strict=True), key=lambda pair: pair[0])
    point = members[0].trial.point
    at_edge = any(is_at_edge(point[key], [outcome.trial.point[key] for outcome in outcomes]) for key in point)
    return Chosen(arm, point, loss, len(losses), at_edge)
