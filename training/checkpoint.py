"""Checkpoints that are either whole or not there.

Everything of a run that a checkpoint must hold for the run to go on as if nothing had happened.

The states of a run that can be had again: its initialisation and its checkpoints.
"""

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
from ..errors import UserError
from ..hessian.settings import Moment, step_at
from ..tasks.problem import Problem, build_problem
from .devices import choose_device
from .run_folder import RunFolder
from .schedules import number_of_steps

LAST_TO_KEEP = 2


class Checkpoints:
    """The ``checkpoints/`` of a run folder.

    Args:
        folder: where they lie, as ``step_000100.pt``.
        keep: steps whose checkpoint stays; of the others the last two stay.
    """

    def __init__(self, folder: Path, keep: Collection[int] = ()) -> None:
        self.folder = folder
        self.keep = frozenset(keep)

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"step_{step:06d}.pt"

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order."""
        found = (re.fullmatch(r"step_(\d+)\.pt", path.name) for path in self.folder.glob("step_*.pt"))
        return sorted(int(match[1]) for match in found if match)

    def save(self, step: int, content: dict[str, Any]) -> None:
        """Write a checkpoint to a temporary name, through to the disk, rename it, and drop those no longer due."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / "unfinished.tmp"
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path(step))
        _sync_folder(self.folder)
        self.drop_old()

    def drop_old(self) -> None:
        """Remove the checkpoints that are no longer due."""
        for old in self.steps()[:-LAST_TO_KEEP]:
            if old not in self.keep:
                self.path(old).unlink()

    def load_last(
        self, device: torch.device, check: Callable[[dict[str, Any]], None] = lambda content: None
    ) -> tuple[dict[str, Any] | None, list[str]]:
        """The last checkpoint that is whole, or None, and one line on each that was passed over.

        Args:
            device: where its tensors go.
            check: raises ValueError for a checkpoint that cannot be gone on from.
        """
        complaints: list[str] = []
        for step in reversed(self.steps()):
            try:
                content = load_checkpoint(self.path(step), device)
                check(content)
                return content, complaints
            except ValueError as error:
                complaints.append(str(error))
        return None, complaints


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read one checkpoint; nothing in it is executed.

    Raises:
        ValueError: the file is missing, damaged, or holds something other than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"checksum of {damaged} is wrong")
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch, pickle and zipfile raise a dozen kinds for a damaged file
        raise ValueError(f"{path}: no whole checkpoint: {' '.join(str(error).split())[:160]}") from error
    if not isinstance(content, dict) or "step" not in content:
        raise ValueError(f"{path}: no checkpoint of a training run")
    return content


def _sync_folder(folder: Path) -> None:
    # On some systems a folder cannot be opened; there the rename is left to the file system.
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass
class TrainingState:
    """The moving parts of a run.

    There is no random generator among them: every random stream is derived from the seed and the step.

    Attributes:
        step: optimizer steps taken.
        examples: training examples seen.
        tokens: training tokens seen, padding not counted.
        rows: rows of metrics.csv.
        losses: mean loss of each step since the last training row of metrics.csv; scalars on the device.
        training_weights: those of training, where the model holds the others that its optimizer evaluates with.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    examples: int = 0
    tokens: int = 0
    rows: int = 0
    losses: list[Tensor] = field(default_factory=list)
    training_weights: list[Tensor] | None = None

    def __post_init__(self) -> None:
        # As torch's schedulers do: the full rate stays beside the current one, in checkpoints too.
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
            "rows": self.rows,
            "losses": [float(loss) for loss in self.losses],
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Take over what ``to_checkpoint`` gave.

        Raises:
            ValueError: it is of another model or optimizer.
        """
        try:
            self._restore(checkpoint)
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"is of another model or optimizer: {reason}") from error

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.step, self.examples, self.tokens = checkpoint["step"], checkpoint["examples"], checkpoint["tokens"]
        self.rows = checkpoint.get("rows", 0)
        self.training_weights = checkpoint.get("training_weights")
        device = next(self.model.parameters()).device
        self.losses = [torch.tensor(loss, device=device) for loss in checkpoint["losses"]]


@dataclass(frozen=True)
class Visit:
    """A run at one of its moments.

    Attributes:
        step: optimizer steps taken.
        problem: the same object at every visit, with the weights of this moment.
        checkpoint: what is known besides; None at the initialisation.
    """

    step: int
    problem: Problem
    checkpoint: dict[str, Any] | None


def revisit(experiment: Experiment, folder: RunFolder, moments: Sequence[Moment] | None) -> Iterator[Visit]:
    """Go back to moments of a run, in order, while no other process may work in its folder.

    Args:
        experiment: the run's config; what it says about measurements may be another.
        folder: the run folder; without checkpoints there is the initialisation.
        moments: steps or percentages; 0 is the initialisation, None stands for all that there are.

    Raises:
        RunBusyError: another living process works in the folder.
        UserError: a checkpoint is missing or damaged, or the device is not there.
    """
    device = choose_device(experiment.training.device)
    problem = build_problem(experiment.model, experiment.data, experiment.task, experiment.seed, device)
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
                problem.model.load_state_dict(checkpoint["model"])
            yield Visit(step, problem, checkpoint)
