"""A run folder: its name, paths, config, status and lock."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

from .. import __version__
from ..cache import content_digest
from ..configs.load import dump_experiment, explain, identity, load_experiment, read_yaml
from ..configs.schema import Experiment
from ..errors import UserError, printable
from ..files import open_to_read, replace_text


class Status(BaseModel, extra="allow", strict=True):
    """The keys of status.json that are read, of runs and of studies."""

    state: str = ""
    step: NonNegativeInt = 0
    last_train_loss: float | None = None
    last_eval_loss: float | None = None
    best_eval_loss: float | None = None
    seconds_training: NonNegativeFloat = 0.0
    seconds_measuring: NonNegativeFloat = 0.0
    error: str | None = None
    device: str = ""
    processes: PositiveInt = 1
    config_digest: str = ""
    data_digest: str = ""
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
        with open_to_read(path) as file:
            content = file.read()
        return Status.model_validate_json(content).model_dump(exclude_unset=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise UserError(f"{path}: {printable(explain(error)[0].removeprefix(': '))}") from None


FINISHED = ("done", "diverged")
"""States of a run that is left alone."""


class DataChangedError(UserError):
    """The data is not the data that a run was trained on."""


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
        if isinstance(lr := getattr(optimizer, "lr", None), int | float):
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
        replace_text(self.config, dump_experiment(experiment))

    def read_config(self, overrides: Sequence[str] = ()) -> Experiment:
        """The config that the run was made with, and ``overrides``.

        Raises:
            UserError: config.yaml cannot be read, or it was edited after the run.
        """
        experiment = load_experiment(self.config)
        written = self.read_status().get("config_digest")
        # An interrupted update of config.yaml leaves the older digest, but the identity in the folder's name fits.
        if written not in (None, self.config_digest()) and not self.path.name.endswith(f"-{identity(experiment)}"):
            raise UserError(
                f"{self.config}: was edited, it is not the config that the run was made with; "
                "`whyadam train` with the run's own config writes it anew"
            )
        return load_experiment(self.config, overrides) if overrides else experiment

    def config_digest(self) -> str:
        """32 hexadecimal digits that stand for the values in config.yaml, for status.json."""
        return content_digest(json.dumps(read_yaml(self.config), sort_keys=True))

    def check_data(self, digest: str) -> None:
        """Refuse data that is not the data that the run was trained on, as far as status.json knows it.

        Raises:
            DataChangedError: it is another.
        """
        written = self.read_status().get("data_digest")
        if written not in (None, digest):
            raise DataChangedError(
                f"{self.path}: the data is not the data that this run was trained on; "
                "restore it, or train into another folder with --out"
            )

    def read_status(self) -> dict[str, Any]:
        """The content of status.json; empty where it cannot be read."""
        try:
            return read_status(self.path / "status.json")
        except UserError:
            return {}

    def write_status(self, **changes: Any) -> None:
        """Update some keys of status.json."""
        replace_text(self.path / "status.json", json.dumps(self.read_status() | changes, indent=2) + "\n")

    def is_finished(self) -> bool:
        """Whether the run is ``done`` or ``diverged``."""
        status = self.read_status()
        return status.get("state") in FINISHED and "step" in status


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
    folder = RunFolder(target)
    return folder.read_config(overrides), folder


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
