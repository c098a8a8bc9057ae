"""A short run that does everything a run can do, and the means to break it."""

from __future__ import annotations

import csv
import multiprocessing
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tqdm import tqdm
from whyadam.configs.load import parse_experiment
from whyadam.configs.schema import Experiment
from whyadam.training.checkpoint import load_checkpoint
from whyadam.training.run import run_experiment
from whyadam.training.run_folder import RunFolder

CONFIG: dict[str, Any] = {
    "name": "faults",
    "model": {"name": "point"},
    "data": {
        "name": "quadratic",
        "blocks": [[1, 2], [10, 11]],
        "noise": {"name": "student_t", "alpha": 3},
        "examples": 64,
    },
    "task": {"name": "quadratic"},
    "optimizer": {"name": "adam", "lr": 0.05},
    "schedule": {"name": "cosine"},
    "training": {
        "steps": 24,
        "batch_size": 8,
        "eval_every": 3,
        "log_every": 2,
        "checkpoint_every": 4,
        "keep_checkpoints": [8],
    },
    "noise": {"every": 12, "batches": 8},
    "hessian": {"at": [0, "50%"], "blocks": "default", "batch_size": 1},
}


OF_THE_CLOCK = (".lock", "status.json", "status.json.tmp")
"""The last one stays if a run is killed when it is done but for its very last word, and is harmless."""


@dataclass(frozen=True)
class Victim:
    """A run in a folder of its own, and the files of an undisturbed run of the same config."""

    experiment: Experiment
    out: Path
    wanted: dict[str, Any]

    @property
    def folder(self) -> RunFolder:
        return RunFolder.of(self.experiment, self.out)

    def start(self, before: Callable[[], object] = lambda: None) -> multiprocessing.Process:
        """Run in a child, which has torch imported already, after ``before`` in it."""

        def work() -> None:
            # The progress bars' own lock is shared with forked children; one that is killed may never give it back.
            tqdm.set_lock(threading.RLock())
            before()
            os._exit(run_experiment(self.experiment, self.out).exit_code)

        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        return child

    def ends_like_undisturbed(self) -> None:
        """Start it again; all it leaves must be to the bit what the undisturbed run leaves."""
        assert run_experiment(self.experiment, self.out).state == "done"
        found = contents(self.folder.path)
        assert found.keys() == self.wanted.keys()
        for name, content in self.wanted.items():
            assert found[name] == content, name


def contents(folder: Path) -> dict[str, Any]:
    """Every file of a run folder without what depends on the clock, in values that are equal to the last bit or not."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in OF_THE_CLOCK)
    return {str(path.relative_to(folder)): _content(path) for path in files}


def _content(path: Path) -> Any:
    if path.name == "metrics.csv":
        with path.open(newline="") as file:
            return [row | {"seconds": ""} for row in csv.DictReader(file)]
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: array.tobytes() for name, array in arrays.items()}
    return _bytes(load_checkpoint(path)) if path.suffix == ".pt" else path.read_bytes()


def _bytes(content: Any) -> Any:
    if isinstance(content, torch.Tensor):
        return content.numpy().tobytes()
    if isinstance(content, dict):
        return {key: _bytes(value) for key, value in content.items()}
    return [_bytes(value) for value in content] if isinstance(content, list | tuple) else content


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """A forked child hangs in OpenMP if its parent has used threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def _wanted(_one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return contents(run_experiment(parse_experiment(CONFIG, "test"), tmp_path_factory.mktemp("whole")).folder.path)


@pytest.fixture
def victim(_wanted: dict[str, Any], tmp_path: Path) -> Victim:
    """A run of a second on a quadratic: evaluation, noise, curvature, checkpoints."""
    return Victim(parse_experiment(CONFIG, "test"), tmp_path / "out", _wanted)


@pytest.fixture
def make_victim(tmp_path: Path) -> Callable[[dict[str, Any]], Victim]:
    """The same for any config."""

    def make(config: dict[str, Any]) -> Victim:
        experiment = parse_experiment(config, "test")
        wanted = contents(run_experiment(experiment, tmp_path / "whole").folder.path)
        return Victim(experiment, tmp_path / "out", wanted)

    return make
