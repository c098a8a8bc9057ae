"""A sweep of small networks in which runs end in every way there is."""

from __future__ import annotations

import csv
import os
import re
import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from whyadam.studies.sweeps.plan import Sweep, change_sweep, load_sweep, plan
from whyadam.studies.sweeps.sweep import SweepResult, known_trials, run_sweep, run_sweeps, sweep_table
from whyadam.studies.sweeps.workers import LOG
from whyadam.training.checkpoint import Checkpoints, load_checkpoint
from whyadam.training.metrics import read_metrics
from whyadam.training.run import run_experiment
from whyadam.training.run_folder import RunFolder

BAD_OPTIMIZERS = """
import os, signal, torch

class Deadly(torch.optim.SGD):
    def step(self, closure=None):
        os.kill(os.getpid(), signal.SIGKILL)

class Failing(torch.optim.SGD):
    def step(self, closure=None):
        raise RuntimeError("no step today\\nreally not")
"""

SWEEP = """
config: config.yaml
seeds: [0]
tuning_seeds: [100]
arms:
  deadly: {set: {optimizer.name: "bad_optimizers:Deadly", optimizer.lr: 1}}
  busy: {set: {optimizer.name: signum, optimizer.lr: 1e-3}}
  failing: {grid: {optimizer.name: ["bad_optimizers:Failing", adam], optimizer.lr: [1e-3]}}
  sgd: {set: {training.workers: 1}, grid: {optimizer.lr: [0.1, 1e30]}}
"""


class Swept:
    """The sweep, its folder and its result."""

    def __init__(self, root: Path, config: dict[str, Any]) -> None:
        (root / "bad_optimizers.py").write_text(BAD_OPTIMIZERS)
        (root / "config.yaml").write_text(yaml.safe_dump(config))
        (root / "sweep.yaml").write_text(SWEEP)
        self.out = root / "runs"
        self.sweep = load_sweep(root / "sweep.yaml")
        self.result: SweepResult

    def only(self, arm: str) -> Sweep:
        """The sweep with one of its arms."""
        return change_sweep(self.sweep, arms={arm: self.sweep.arms[arm]})


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swept]:
    """Done once: its processes take seconds to start."""
    root = tmp_path_factory.mktemp("sweep")
    config = {
        "name": "tiny",
        "model": {"name": "mlp", "hidden": [16]},
        "data": {"name": "mnist5k"},
        "task": {"name": "classification"},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "training": {"steps": 6, "batch_size": 16, "eval_every": 3, "eval_examples": 64, "log_every": 2},
    }
    swept = Swept(root, config)
    sys.path.insert(0, str(root))
    (busy,) = (trial for trial in plan(swept.sweep) if trial.arm == "busy")
    with busy.folder(swept.out).lock():
        swept.result = run_sweep(swept.sweep, swept.out)
    yield swept
    sys.path.remove(str(root))


def test_every_ending_is_told_and_harms_no_other_run(swept: Swept) -> None:
    endings = {(outcome.trial.arm, *outcome.trial.point.values()): outcome for outcome in swept.result.tuning}
    failing = ("failing", "bad_optimizers:Failing", 1e-3)
    assert {place: outcome.state for place, outcome in endings.items()} == {
        ("deadly",): "failed",
        ("busy",): "failed",
        failing: "failed",
        ("failing", "adam", 1e-3): "done",
        ("sgd", 0.1): "done",
        ("sgd", 1e30): "diverged",
    }
    assert endings["deadly",].error == "its process was ended by SIGKILL, perhaps for want of memory"
    assert re.search(
        r"/bad_optimizers.py:10: .*bad_optimizers:Failing fails in step\(\): no step today really not$",
        str(endings[failing].error),
    )
    assert "another process is at work" in str(endings["busy",].error)
    assert endings["sgd", 0.1].loss == endings["sgd", 0.1].status["last_eval_loss"]
    assert endings["sgd", 1e30].loss == inf


def test_a_worker_keeps_what_a_run_printed(swept: Swept) -> None:
    logs = {
        outcome.trial.experiment.optimizer.name: (outcome.folder / LOG).read_text() for outcome in swept.result.tuning
    }
    assert "Traceback" in logs["bad_optimizers:Failing"]
    assert "no step today" in logs["bad_optimizers:Failing"]
    assert "no step today" not in logs["signum"] + logs["adam"] + logs["sgd"]


def test_the_second_stage_has_the_best_point_of_each_arm_that_is_complete(swept: Swept) -> None:
    """An arm that failed in tuning has no best point."""
    assert list(swept.result.chosen) == ["sgd"]
    chosen = swept.result.chosen["sgd"]
    assert (chosen.point, chosen.tried, chosen.at_edge) == ({"optimizer.lr": 0.1}, 2, True)
    final = [(outcome.trial.seed, outcome.trial.point, outcome.state) for outcome in swept.result.final]
    assert final == [(0, {"optimizer.lr": 0.1}, "done")]


def test_a_run_in_a_worker_ends_in_the_bytes_of_a_run_alone(swept: Swept, tmp_path: Path) -> None:
    """Nothing may be left behind in a process by the runs before, failed ones included."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for outcome in swept.result.outcomes:
            if outcome.state == "done":
                alone = run_experiment(outcome.trial.experiment, tmp_path).folder
                assert results(alone) == results(RunFolder(outcome.folder))
    finally:
        torch.set_num_threads(threads)


def results(folder: RunFolder) -> tuple[list[dict[str, str]], dict[str, bytes]]:
    rows = [row | {"seconds": ""} for row in read_metrics(folder.metrics)]
    checkpoints = Checkpoints(folder.checkpoints)
    checkpoint = load_checkpoint(checkpoints.path(checkpoints.steps()[-1]))
    return rows, {name: tensor.numpy().tobytes() for name, tensor in checkpoint["model"].items()}


def test_a_second_call_starts_nothing(swept: Swept, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr("whyadam.studies.sweeps.workers._Worker", refuse)
    again = run_sweep(swept.only("sgd"), swept.out, jobs=2)
    assert [outcome.folder for outcome in again.outcomes] == [
        outcome.folder for outcome in swept.result.outcomes if outcome.trial.arm == "sgd"
    ]


def test_the_second_stage_is_known_once_the_first_has_ended(swept: Swept, tmp_path: Path) -> None:
    """What --print-commands prints: nothing twice, and nothing that might still change."""
    seeds = {
        (name, out.name): ([trial.seed for trial in trials], is_complete)
        for name in ("sgd", "failing")
        for out in (swept.out, tmp_path)
        for trials, is_complete in [known_trials(swept.only(name), out)]
    }
    assert seeds == {
        ("sgd", swept.out.name): ([100, 100, 0], True),
        ("sgd", tmp_path.name): ([100, 100], False),
        ("failing", swept.out.name): ([100, 100], False),
        ("failing", tmp_path.name): ([100, 100], False),
    }


def test_equal_runs_of_two_sweeps_are_one(swept: Swept) -> None:
    """The same arm under another name leads to the same folders."""
    sgd = swept.only("sgd")
    renamed = change_sweep(sgd, arms={"momentum-free": sgd.arms["sgd"]})
    first, second = run_sweeps([sgd, renamed], swept.out)
    assert [outcome.folder for outcome in first.outcomes] == [outcome.folder for outcome in second.outcomes]
    assert set(second.chosen) == {"momentum-free"}


def test_runs_csv_has_one_row_a_run_and_keeps_those_of_other_sweeps(swept: Swept) -> None:
    run_sweep(swept.only("sgd"), swept.out)
    with (swept.out / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted((row["arm"], row["seed"], row["state"]) for row in rows) == [
        ("busy", "0", "failed"),
        ("deadly", "0", "failed"),
        ("failing", "100", "done"),
        ("failing", "100", "failed"),
        ("sgd", "0", "done"),
        ("sgd", "100", "diverged"),
        ("sgd", "100", "done"),
    ]
    done = next(row for row in rows if row["arm"] == "sgd" and row["seed"] == "0")
    assert (swept.out / done["run"] / "status.json").exists()
    assert (done["model"], done["data"], done["lr"], done["step"]) == ("mlp", "mnist5k", "0.1", "6")
    assert float(done["final_eval_loss"]) > 0
    assert next(row["final_eval_loss"] for row in rows if row["state"] == "diverged") == "inf"


def test_the_table_marks_the_best_and_counts_the_endings(swept: Swept) -> None:
    lines = sweep_table(swept.result).splitlines()
    assert any("lr=0.1" in line and line.endswith("best, at the edge of the grid") for line in lines)
    assert any("lr=1e+30" in line and line.endswith("diverged (1 of 1)") for line in lines)
    assert "inf" not in sweep_table(swept.result)
    assert any(line.startswith("deadly") and "failed" in line for line in lines)
    assert "at the best of each arm" in lines


def test_nothing_is_started_while_a_config_is_wrong(swept: Swept) -> None:
    wrong = change_sweep(swept.sweep, grid={"training.steps": (5, 0)})
    before = sorted(os.listdir(swept.out / "tiny"))
    with pytest.raises(ValueError, match=r"training\.steps"):
        run_sweep(wrong, swept.out)
    assert sorted(os.listdir(swept.out / "tiny")) == before
