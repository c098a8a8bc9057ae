"""How the runs of a sweep ended, as their folders say: ``runs.csv``, and the best point of each arm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files import write_csv
from ...grid import best_point
from ...training.run_folder import FINISHED, RunFolder
from .plan import Trial, describe_point

STATUS_COLUMNS = ("best_eval_loss", "last_train_loss", "seconds_training", "seconds_measuring")


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
        loss = math.inf if loss is None or math.isnan(loss) else loss
        return cls(trial, folder.path, state, status.get("error"), loss, status)

    @property
    def is_result(self) -> bool:
        """Whether the run has ended in a result: done, or diverged."""
        return self.state in FINISHED

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
            **{name: status.get(name) for name in STATUS_COLUMNS},
            "error": self.error,
        }


def write_runs(outcomes: Iterable[Outcome], out: Path) -> Path:
    """Write ``runs.csv``, one row per run; rows of other sweeps into the same folder stay while their runs do."""
    import pandas as pd

    path = out / "runs.csv"
    rows = pd.DataFrame([outcome.row(out) for outcome in outcomes], dtype=object)
    with suppress(FileNotFoundError, ValueError):  # a damaged file is written anew
        before = pd.read_csv(path, dtype=str, keep_default_na=False)
        if list(before) == list(rows):
            rows = pd.concat([before[[(out / run).is_dir() for run in before["run"]]], rows])
    order = rows["run"].drop_duplicates()
    rows = rows.drop_duplicates("run", keep="last").set_index("run").loc[order].reset_index()
    write_csv(path, rows.to_dict("records"))
    return path


@dataclass(frozen=True)
class Chosen:
    """The best point of an arm.

    Attributes:
        arm: its name.
        point: a value by dotted key.
        loss: median over the seeds of the final evaluation loss, in nats; a diverged run counts as infinite.
        tried: how many points there were to choose from.
        at_edge: whether a value beyond the grid might have been better; see ``grid.best_point``.
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
    outcomes = list(outcomes)
    chosen: dict[str, Chosen] = {}
    for arm, members in outcome_frame(outcomes).groupby("arm", sort=False):
        if members["state"].isin(FINISHED).all():
            points = [outcomes[first].trial.point for first in members.drop_duplicates("point").index]
            best = best_point(points, members.groupby("point", sort=False)["loss"].median().tolist())
            chosen[arm] = Chosen(arm, points[best.index], best.score, best.tried, best.at_edge)
    return chosen


def outcome_frame(outcomes: Iterable[Outcome]) -> Any:
    """Arm, point, seed, state and loss of each outcome, as a pandas DataFrame in their order."""
    import pandas as pd

    columns = ("arm", "point", "seed", "state", "loss")
    rows = [
        (run.trial.arm, describe_point(run.trial.point), run.trial.seed, run.state, float(run.loss)) for run in outcomes
    ]
    return pd.DataFrame(rows, columns=columns)
