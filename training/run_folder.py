"""A run folder: its name, paths, config, status and lock."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from .. import __version__
from ..configs.load import dump_experiment, explain, identity, load_experiment
from ..configs.schema import Experiment
from ..errors import UserError, printable


class Status(BaseModel, extra="allow", strict=True):
    """The keys of status.json that are read, of runs and of studies."""

    state: str = ""
    step: int = 0
    last_train_loss: float | None = None
    last_eval_loss: float | None = None
    best_eval_loss: float | None = None
    seconds_training: float = 0.0
    seconds_measuring: float = 0.0
    error: str | None = None
    device: str = ""
    git_commit: str | None = None
    versions: dict[str, str] = {}
    study: str = ""
    scale: str = ""
    settings: dict[str, Any] = {}
    seconds: float = 0.0


def read_status(path: Path) -> dict[str, Any]:
    """The content of a status.json.

    Raises:
        UserError: it cannot be read, or a key has a value of the wrong type.
    """
    try:
        return Status.model_validate_json(path.read_bytes()).model_dump(exclude_unset=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise UserError(f"{path}: {printable(explain(error)[0].removeprefix(': '))}") from None


FINISHED = ("done", "diverged")
"""States of a run that is left alone."""


class RunBusyError(UserError):
    """Another living process works in the run folder."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run folder, and its status."""

    path: Path

    @classmethod
    def of(cls, experiment: Experiment, out: Path) -> RunFolder:
        """The folder of an experiment: ``OUT/<name>/<optimizer>-lr<lr>-seed<seed>-<identity>``."""
        optimizer = experiment.optimizer
        words = [optimizer.name]
        if (lr := getattr(optimizer, "lr", None)) is not None:
            words.append(f"lr{lr:g}")
        slug = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join([*words, f"seed{experiment.seed}"]))[:100]
        return cls(out / experiment.name / f"{slug}-{identity(experiment)}")

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """The loss curves."""
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    def lock(self, patience: float = 0.0) -> FileLock:
        """An acquired lock; it is released at the latest when the process ends.

        Args:
            patience: seconds to wait for another process to release it.

        Raises:
            RunBusyError: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock", timeout=patience)
        try:
            lock.acquire()
        except Timeout:
            raise RunBusyError(f"{self.path}: another process is at work in this run folder") from None
        return lock

    def write_config(self, experiment: Experiment) -> None:
        """Write the resolved config."""
        _replace(self.config, dump_experiment(experiment))

    def read_status(self) -> dict[str, Any]:
        """The content of status.json; empty where it cannot be read."""
        try:
            return read_status(self.path / "status.json")
        except UserError:
            return {}

    def write_status(self, **changes: Any) -> None:
        """Update some keys of status.json."""
        _replace(self.path / "status.json", json.dumps(self.read_status() | changes, indent=2) + "\n")

    def is_finished(self) -> bool:
        """Whether the run is ``done`` or ``diverged``."""
        return self.read_status().get("state") in FINISHED


def read_target(target: Path, overrides: list[str], out: Path, section: str) -> tuple[Experiment, RunFolder]:
    """The experiment and the run folder that a measuring command is pointed at.

    Args:
        target: a run folder, or a config file, whose run folder is below ``out``.
        overrides: of a run, only its ``section`` and the device can be changed.
        out: folder for run folders.
        section: the part of the config that the command uses.

    Raises:
        UserError: the config cannot be read, or an override would make it another run.
    """
    if not target.is_dir():
        experiment = load_experiment(target, overrides)
        return experiment, RunFolder.of(experiment, out)
    for override in overrides:
        if not override.startswith((f"{section}.", "training.device=")):
            raise UserError(f"-s {override}: of a run, only {section}.* and training.device can be changed")
    return load_experiment(target / "config.yaml", overrides), RunFolder(target)


def describe_environment() -> dict[str, Any]:
    """Versions and git commit, for status.json."""
    import numpy
    import torch

    versions = {"whyadam": __version__, "torch": torch.__version__, "numpy": numpy.__version__}
    return {"versions": versions, "git_commit": _git_commit()}


def _git_commit() -> str | None:
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    answer = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
