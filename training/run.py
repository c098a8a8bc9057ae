"""From an experiment to a finished run folder: build, resume, train, and leave the right status behind."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..configs.schema import Experiment
from ..errors import UserError
from ..hessian.record import HessianRecord
from ..noise.record import NoiseRecord
from ..optimizers import build_optimizer
from ..tasks.problem import build_problem
from .checkpoints import Checkpoints
from .devices import choose_device, forget_peak_memory, peak_memory_mib
from .hessian import HessianMeter
from .interruption import Interruption
from .loop import Meter, train
from .metrics import MetricsFile, rows_until
from .noise import NoiseMeter
from .progress import Progress
from .recorder import DivergedError, Recorder
from .run_folder import RunFolder, describe_environment
from .schedule import number_of_steps
from .state import TrainingState


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        state: ``done``, ``diverged`` or ``interrupted``, as in status.json.
        folder: where its files lie.
        was_finished: whether there was nothing left to do.
        exit_code: what a shell should be told: 0, or 130 or 143 after a signal.
    """

    state: str
    folder: RunFolder
    was_finished: bool = False
    exit_code: int = 0


def run_experiment(experiment: Experiment, out: Path) -> RunResult:
    """Train an experiment in its run folder, or go on with it, or leave it alone if it is finished.

    Raises:
        RunBusyError: another living process works in the folder.
        ValueError: the data or a device is not there, or the parts do not fit; one line.
    """
    folder = RunFolder.of(experiment, out)
    with folder.lock():
        if folder.is_finished():
            return RunResult(folder.read_status()["state"], folder, was_finished=True)
        try:
            return _run(experiment, folder)
        except BaseException as error:
            ending = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            # A full disk takes no status either; what went wrong first is what the user must hear of.
            with suppress(OSError):
                folder.write_status(state=ending, error=reason)
            raise


def _run(experiment: Experiment, folder: RunFolder) -> RunResult:
    settings = experiment.training
    device = choose_device(settings.device)
    forget_peak_memory(device)
    folder.write_config(experiment)
    folder.write_status(state="running", device=str(device), error=None, **describe_environment())
    problem = build_problem(experiment.model, experiment.data, experiment.task, experiment.seed)
    problem.model.to(device).train()
    optimizer = build_optimizer(experiment.optimizer, problem.model.named_parameters())
    state = TrainingState(problem.model, optimizer)
    checkpoints = Checkpoints(folder.checkpoints, settings.keep_checkpoints)
    resumed = _restore(state, checkpoints, folder.metrics, device)
    checkpoints.drop_old()
    noise_record = NoiseRecord(folder.path)
    noise_record.cut(state.step)
    meters: list[Meter] = [
        NoiseMeter(experiment, problem, noise_record),
        HessianMeter(experiment, problem, HessianRecord(folder.path), optimizer),
    ]
    with (
        MetricsFile(folder.metrics, keep_until=state.step if resumed else None) as metrics,
        Progress(folder.path.name, number_of_steps(settings, len(problem.train)), start=state.step) as progress,
        Interruption() as interruption,
    ):
        recorder = Recorder(folder, metrics, progress, epoch_length=len(problem.train))
        try:
            ending = train(experiment, problem, state, checkpoints, recorder, meters, interruption)
            recorder.write_status(state, ending)
        except DivergedError as divergence:
            ending = "diverged"
            recorder.write_status(state, ending, error=str(divergence))
    folder.write_status(peak_memory_mib=peak_memory_mib(device))
    return RunResult(ending, folder, exit_code=interruption.exit_code if ending == "interrupted" else 0)


def _restore(state: TrainingState, checkpoints: Checkpoints, metrics: Path, device: torch.device) -> bool:
    """Go back to the last checkpoint that is whole and whose rows of metrics.csv are there; whether there is one."""

    def has_its_rows(checkpoint: dict[str, Any]) -> None:
        step, wanted = checkpoint["step"], checkpoint.get("rows", 0)
        if (found := len(rows_until(metrics, step))) < wanted:
            raise ValueError(f"{metrics}: {found} whole rows up to step {step}, where {wanted} had been written")

    checkpoint, complaints = checkpoints.load_last(device, has_its_rows)
    before = "the one before" if checkpoint else "the beginning"
    for complaint in complaints:
        print(f"{complaint}; going on from {before}", file=sys.stderr)
    if checkpoint is None:
        return False
    try:
        state.restore(checkpoint)
    except ValueError as error:
        raise UserError(f"{checkpoints.path(checkpoint['step'])}: {error}") from error
    return True
