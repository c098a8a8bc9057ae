"""The state of a run, its checkpoints, and going back to them."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..configs.schema import Experiment
from ..errors import UserError, one_line
from ..files import open_to_read, replacing
from ..hessian.settings import Moment, step_at
from ..tasks.problem import Problem, build_problem
from .devices import choose_device
from .run_folder import RunFolder
from .schedules import number_of_steps

LAST_TO_KEEP = 2

_PLAIN = (type(None), bool, int, float, complex, str, bytes)

_NAME = re.compile(r"step_([0-9]{6,18})\.pt")

_TYPES: dict[str, type] = {
    "step": int,
    "examples": int,
    "tokens": int,
    "losses": list,
    "model": dict,
    "optimizer": dict,
}
"""What every checkpoint of a run holds."""


@dataclass
class TrainingState:
    """All that changes during training; random generators are not among it, they are derived from seed and step.

    Attributes:
        step: optimizer steps taken.
        examples: training examples seen.
        tokens: training tokens seen, without padding.
        losses: mean loss of each step since the last training row of metrics.csv; scalars on the device.
        training_weights: those of training, where the model holds the others that its optimizer evaluates with.
        clip_fractions: the same of the share that was clipped; empty if the rule does not clip.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    examples: int = 0
    tokens: int = 0
    losses: list[Tensor] = field(default_factory=list)
    training_weights: list[Tensor] | None = None
    clip_fractions: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        # As torch's schedulers do: the full rate is kept beside the current one, in checkpoints too.
        for group in self.optimizer.param_groups:
            if group.get("lr") is not None:
                group.setdefault("initial_lr", group["lr"])

    @property
    def has_two_modes(self) -> bool:
        """Whether the optimizer trains with other weights than it evaluates with, as schedule-free ones do."""
        return all(callable(getattr(self.optimizer, name, None)) for name in ("train", "eval"))

    def begin_training(self) -> None:
        """Let the model have the weights that training left; nothing for an optimizer that has one mode only.

        An optimizer computes them from those of evaluation up to rounding, so the bits are copied back.
        """
        if not self.has_two_modes:
            return
        self.optimizer.train()  # type: ignore[attr-defined]
        if self.training_weights is not None:
            with torch.no_grad():
                torch._foreach_copy_(self._parameters(), self.training_weights)
            self.training_weights = None

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within this block the model has the weights that its optimizer evaluates with; so have checkpoints."""
        if not self.has_two_modes:
            yield
            return
        self.training_weights = [parameter.detach().clone() for parameter in self._parameters()]
        self.optimizer.eval()  # type: ignore[attr-defined]
        try:
            yield
        finally:
            self.begin_training()

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def to_checkpoint(self) -> dict[str, Any]:
        """Tensors and plain values only, so that loading them executes nothing."""
        more = {} if self.training_weights is None else {"training_weights": self.training_weights}
        return more | {
            "step": self.step,
            "examples": self.examples,
            "tokens": self.tokens,
            "losses": [float(loss) for loss in self.losses],
            "clip_fractions": [float(share) for share in self.clip_fractions],
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Load what ``to_checkpoint`` returned; ``path`` is its file, for messages.

        Raises:
            UserError: it is of another model or optimizer.
        """
        try:
            self.model.load_state_dict(checkpoint["model"])
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            self.step, self.examples, self.tokens = checkpoint["step"], checkpoint["examples"], checkpoint["tokens"]
            self.training_weights = checkpoint.get("training_weights")
            device = next(self.model.parameters()).device
            self.losses = [torch.tensor(loss, device=device) for loss in checkpoint["losses"]]
            shares = checkpoint.get("clip_fractions", [])
            self.clip_fractions = [torch.tensor(share, device=device) for share in shares]
        except Exception as error:  # torch raises half a dozen kinds for a state that does not fit
            raise _of_another(path, error) from error


class Checkpoints:
    """The ``checkpoints/`` of a run folder; each file is complete or not there.

    Args:
        folder: holds ``step_000100.pt`` and so on.
        keep: steps whose checkpoint is kept; of the others the last two are.
    """

    def __init__(self, folder: Path, keep: Collection[int] = ()) -> None:
        self.folder = folder
        self.keep = frozenset(keep)

    def path(self, step: int) -> Path:
        """The file of a step."""
        return self.folder / f"step_{step:06d}.pt"

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order."""
        found = {int(match[1]) for path in self.folder.glob("step_*.pt") if (match := _NAME.fullmatch(path.name))}
        return sorted(step for step in found if self.path(step).exists())

    def save(self, step: int, content: dict[str, Any]) -> None:
        """Write a checkpoint through to the disk under a temporary name, rename it, remove old ones.

        Raises:
            UserError: a user's own optimizer or model keeps more than tensors and plain values.
        """
        if (odd := _first_odd(content)) is not None:
            raise UserError(
                f"a checkpoint holds tensors and plain values only, not the {type(odd).__name__} that the "
                "optimizer or the model keeps in its state"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.path(step), temporary="unfinished.tmp", sync=True) as file:
            torch.save(content, file)
        _sync_folder(self.folder)
        self.remove_old()

    def remove_old(self) -> None:
        """Remove all but the last two and those to keep."""
        for old in self.steps()[:-LAST_TO_KEEP]:
            if old not in self.keep:
                self.path(old).unlink()

    def load_latest(
        self, device: torch.device, check: Callable[[dict[str, Any]], None] = lambda content: None
    ) -> tuple[dict[str, Any] | None, list[str]]:
        """The latest usable checkpoint, or None, and one line for each later one that is not usable.

        Args:
            device: where its tensors go.
            check: raises UserError for a checkpoint from which the run cannot be resumed.
        """
        complaints: list[str] = []
        for step in reversed(self.steps()):
            try:
                content = load_checkpoint(self.path(step), device)
                check(content)
                return content, complaints
            except UserError as error:
                complaints.append(str(error))
        return None, complaints


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read one checkpoint; nothing in it is executed.

    Raises:
        UserError: the file is missing, damaged, holds something other than tensors and plain values, is not of a run,
            or is of another step than its name says.
    """
    try:
        with open_to_read(path) as file:
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"checksum of {damaged} is wrong")
            file.seek(0)
            content = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # torch, pickle and zipfile raise a dozen kinds for a damaged file
        raise UserError(f"{path}: not a complete checkpoint: {one_line(error)}") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key), kind) for key, kind in _TYPES.items()):
        raise UserError(f"{path}: not a checkpoint of a training run")
    match = _NAME.fullmatch(path.name)
    if match and int(match[1]) != content["step"]:
        raise UserError(f"{path}: is a checkpoint of step {content['step']}, not of the step in its name")
    return content


def _first_odd(value: Any) -> Any:
    """The first part that ``load_checkpoint`` would refuse to read; None if there is none."""
    if isinstance(value, dict | list | tuple):
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        return next((odd for part in parts if (odd := _first_odd(part)) is not None), None)
    return None if isinstance(value, Tensor) or type(value) in _PLAIN else value


def _of_another(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: is of another model or optimizer: {one_line(error)}")


def _sync_folder(folder: Path) -> None:
    # Some systems cannot open a folder; there the rename is left to the file system.
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class SavedState:
    """A run at one of its saved steps.

    Attributes:
        step: optimizer steps taken.
        problem: the same object for every step, with the weights of this one.
        path: of the checkpoint.
        checkpoint: its content; None at initialization.
    """

    step: int
    problem: Problem
    path: Path
    checkpoint: dict[str, Any] | None


def saved_states(experiment: Experiment, folder: RunFolder, moments: Sequence[Moment] | None) -> Iterator[SavedState]:
    """The states of a run at its initialization and its checkpoints, in order, while its folder is locked.

    Args:
        experiment: the run's config; its ``noise`` and ``hessian`` sections may differ.
        folder: the run folder; one without checkpoints has the initialization.
        moments: steps or percentages; 0 is the initialization, None stands for all that there are.

    Raises:
        RunBusyError: another living process works in the folder.
        UserError: a checkpoint is missing, damaged or of another model, the run was trained on other data, or the
            device is not there.
    """
    device = choose_device(experiment.training.device)
    problem = build_problem(experiment.model, experiment.data, experiment.task, experiment.seed, device)
    folder.check_data(problem.data_digest)
    checkpoints = Checkpoints(folder.checkpoints)
    known = sorted({0, *checkpoints.steps()})
    last_step = number_of_steps(experiment.training, len(problem.train))
    steps = known if moments is None else sorted({step_at(moment, last_step) for moment in moments})
    for step in steps:
        if step not in known:
            raise UserError(f"{folder.path}: no checkpoint of step {step}; there are {', '.join(map(str, known))}")
    with folder.lock():
        if not folder.config.exists():
            folder.write_config(experiment)
        for step in steps:
            checkpoint = load_checkpoint(checkpoints.path(step), device) if step > 0 else None
            if checkpoint is not None:
                try:
                    problem.model.load_state_dict(checkpoint["model"])
                except Exception as error:
                    raise _of_another(checkpoints.path(step), error) from error
            yield SavedState(step, problem, checkpoints.path(step), checkpoint)
