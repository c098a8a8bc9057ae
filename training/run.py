"""From an experiment to a finished run folder: build, resume, train, report the outcome."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..configs.schema import Experiment, check_length
from ..data.digest import data_digest
from ..errors import DivergedError, UserError, printable, user_code
from ..hessian.record import HessianRecord
from ..noise.record import NoiseRecord
from ..optimizers import build_optimizer
from ..progress import Progress
from ..tasks.problem import Problem, build_problem, load_data
from .checkpoint import Checkpoints, TrainingState
from .devices import choose_device, peak_memory_mib, reset_peak_memory
from .distributed import Ranks, process_group
from .hessian_meter import HessianMeter
from .loop import train
from .metrics import MetricsFile, digest_rows, read_metrics, rows_until
from .monitor import Meter, Monitor, Recorder
from .noise_meter import NoiseMeter
from .run_folder import DataChangedError, RunFolder, describe_environment
from .schedules import number_of_steps
from .signals import Interrupted, Interruption


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        state: ``done``, ``diverged`` or ``interrupted``, as in status.json.
        folder: the run folder.
        was_finished: whether there was nothing left to do.
        exit_code: for the shell: 0, or 130 or 143 after a signal.
        is_first_rank: whether this process is the one that prints.
    """

    state: str
    folder: RunFolder
    was_finished: bool = False
    exit_code: int = 0
    is_first_rank: bool = True


def run_experiment(experiment: Experiment, out: Path) -> RunResult:
    """Train an experiment in its run folder below ``out``, resume it, or leave it alone if it is finished.

    Under torchrun all processes train together, and the first one writes the folder.

    Raises:
        RunBusyError: another living process works in the folder.
        ValueError: the data or a device is not there, or the parts do not fit; one line.
        ConnectionError: another of the processes is lost.
    """
    folder = RunFolder.of(experiment, out)
    if experiment.training.steps is not None and not Checkpoints(folder.checkpoints).steps():
        check_length(experiment, experiment.training.steps)
    with process_group() as ranks, ExitStack() as lock:
        is_finished = False
        with ranks.propagate_errors():
            if ranks.is_first:
                lock.enter_context(folder.lock())
                is_finished = folder.is_finished() and not _is_damaged(folder)
                if is_finished:
                    _repair_config(experiment, folder)
                    _tell_differences(experiment, folder, ranks)
        (finished,) = ranks.all_gather(is_finished)
        if finished[0]:
            state = folder.read_status()["state"]
            return RunResult(state, folder, was_finished=True, is_first_rank=ranks.is_first)
        try:
            with user_code():
                return _run(experiment, folder, ranks)
        except DataChangedError:
            raise
        except BaseException as error:
            ending = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            # On a full disk this fails too; the user must see the first error.
            with suppress(OSError):
                if ranks.is_first:
                    folder.write_status(state=ending, error=reason)
            raise


def _run(experiment: Experiment, folder: RunFolder, ranks: Ranks) -> RunResult:
    with ranks.propagate_errors():
        device = ranks.device(experiment.training.device)
        reset_peak_memory(device)
        checkpoints = Checkpoints(folder.checkpoints, experiment.training.keep_checkpoints)
        has_begun = bool(checkpoints.steps() or rows_until(folder.metrics))
        if ranks.is_first and not has_begun:
            _write_start(experiment, folder, device, ranks)
        problem = build_problem(experiment.model, experiment.data, experiment.task, experiment.seed)
        if ranks.is_first:
            if has_begun:
                folder.check_data(problem.data_digest)
                _tell_changes(folder, device.type, ranks, "is resumed")
                _write_start(experiment, folder, device, ranks)
            folder.write_status(data_digest=problem.data_digest)
        is_sharded = experiment.training.shard and not ranks.is_single
        home = torch.device("cpu") if is_sharded else device
        problem.model.to(home).train()
        optimizer = build_optimizer(experiment.optimizer, problem.model.named_parameters())
        state = TrainingState(problem.model, optimizer)
        resumed = _resume(state, checkpoints, folder.metrics, home, ranks)
        if not resumed:
            check_length(experiment, number_of_steps(experiment.training, len(problem.train)))
    _check_same_start(state, ranks)
    interruption = Interruption(ignore_repeats=not ranks.is_single)
    monitoring = (
        _monitor(experiment, problem, checkpoints, folder, state, interruption, resumed)
        if ranks.is_first
        else nullcontext()
    )
    with monitoring as monitor, interruption:
        ending, error = "done", None
        try:
            train(experiment, problem, state, monitor, interruption, ranks)
        except Interrupted as stop:
            ending, interruption.signal = "interrupted", stop.signal
        except DivergedError as divergence:
            ending, error = "diverged", str(divergence)
        # The others wait until the first one has written: torchrun ends all processes when one has ended.
        with ranks.propagate_errors():
            if monitor is not None:
                monitor.recorder.write_status(state, ending, error=error)
                folder.write_status(peak_memory_mib=peak_memory_mib(device))
    exit_code = interruption.exit_code if ending == "interrupted" else 0
    return RunResult(ending, folder, exit_code=exit_code, is_first_rank=ranks.is_first)


def _resume(state: TrainingState, checkpoints: Checkpoints, metrics: Path, device: torch.device, ranks: Ranks) -> bool:
    """Restore the latest complete checkpoint whose rows are in metrics.csv; return whether there is one."""

    def has_its_rows(checkpoint: dict[str, Any]) -> None:
        step, wanted, digest = checkpoint["step"], checkpoint.get("rows", 0), checkpoint.get("rows_digest")
        rows = rows_until(metrics, step)
        if len(rows) < wanted:
            raise UserError(f"{metrics}: {len(rows)} complete rows up to step {step}, where {wanted} had been written")
        if digest is not None and digest_rows(rows[:wanted]) != digest:
            raise UserError(f"{metrics}: the rows up to step {step} are not those that had been written")

    checkpoint, complaints = checkpoints.load_latest(device, has_its_rows)
    before = "the one before" if checkpoint else "the beginning"
    for complaint in complaints if ranks.is_first else []:
        print(f"{complaint}; going on from {before}", file=sys.stderr)
    if checkpoint is None:
        return False
    state.restore(checkpoint, checkpoints.path(checkpoint["step"]))
    return True


def _write_start(experiment: Experiment, folder: RunFolder, device: torch.device, ranks: Ranks) -> None:
    folder.write_config(experiment)
    status = {"device": str(device), "processes": ranks.size, "config_digest": folder.config_digest(), "error": None}
    folder.write_status(state="running", **status, **describe_environment())


def _is_damaged(folder: RunFolder) -> bool:
    """Whether rows of a finished run are lost or damaged and can be trained again; one line says so.

    Raises:
        UserError: there is no checkpoint from which they could be.
    """
    status = folder.read_status()
    try:
        rows = read_metrics(folder.metrics)
        last = (int(rows[-1]["step"]), rows[-1]["split"]) if rows else None
        if status["state"] == "diverged" or last == (status["step"], "eval"):
            return False
        damage = f"{folder.metrics}: the evaluation of the last step, {status['step']}, is missing"
    except UserError as error:
        damage = str(error)
    if not Checkpoints(folder.checkpoints).steps():
        raise UserError(f"{damage}; there is no checkpoint to repair it from, remove the folder to train it again")
    print(f"{damage}; the rows are trained again", file=sys.stderr)
    return True


def _repair_config(experiment: Experiment, folder: RunFolder) -> None:
    """Write the config.yaml of a finished run anew if it was edited or cannot be read."""
    try:
        folder.read_config()
    except UserError as error:
        print(f"{printable(str(error))}; it is written anew", file=sys.stderr)
        folder.write_config(experiment)
        folder.write_status(config_digest=folder.config_digest())


def _tell_differences(experiment: Experiment, folder: RunFolder, ranks: Ranks) -> None:
    """Say in one line each what a finished run was made with, where it is not what there is now."""
    with suppress(UserError):  # the device is not there, which a finished run does not need
        _tell_changes(folder, choose_device(experiment.training.device).type, ranks, "would be trained now")
    if "data_digest" not in folder.read_status():
        return
    try:
        folder.check_data(data_digest(load_data(experiment.task, experiment.data, experiment.seed)))
    except DataChangedError:
        print(f"{folder.path}: the data has changed since this finished run was trained on it", file=sys.stderr)
    except Exception as error:  # a user's own data may raise anything
        print(f"{folder.path}: its data cannot be read to compare: {printable(str(error))}", file=sys.stderr)


def _tell_changes(folder: RunFolder, device_type: str, ranks: Ranks, verb: str) -> None:
    """Say in one line that device type, number of processes or major versions are not those of the run so far."""
    status, versions = folder.read_status(), describe_environment()["versions"]
    now: dict[str, Any] = {"device": device_type, "processes": ranks.size}
    then: dict[str, Any] = {"device": status.get("device", "").partition(":")[0], "processes": status.get("processes")}
    for name in ("torch", "whyadam"):
        now[name] = versions[name]
        then[name] = status.get("versions", {}).get(name)
    changed = [
        name
        for name in now
        if then[name] and then[name] != now[name] and (name not in versions or _major(then[name]) != _major(now[name]))
    ]
    if changed:
        old, new = (", ".join(f"{name} {values[name]}" for name in changed) for values in (then, now))
        print(f"{folder.path}: was trained with {old} and {verb} with {new}: numbers may differ", file=sys.stderr)


def _major(version: str) -> list[str]:
    """The part of a version that says whether results may change: 2 of 2.9.1, 0.3 of 0.3.1."""
    parts = version.split(".")
    return parts[:2] if parts[0] == "0" else parts[:1]


def _check_same_start(state: TrainingState, ranks: Ranks) -> None:
    """All ranks have read the checkpoint before the first one changes the folder.

    Raises:
        UserError: they have read different ones.
    """
    (steps,) = ranks.all_gather(state.step)
    if len(set(steps)) > 1:
        raise UserError(f"--out: not every process sees the same run folder; they start from steps {steps}")


@contextmanager
def _monitor(
    experiment: Experiment,
    problem: Problem,
    checkpoints: Checkpoints,
    folder: RunFolder,
    state: TrainingState,
    interruption: Interruption,
    resumed: bool,
) -> Iterator[Monitor]:
    """What writes into the run folder from here on; files of later steps than the state's are removed."""
    checkpoints.remove_old()
    noise_record = NoiseRecord(folder.path)
    noise_record.cut(state.step)
    meters: list[Meter[Any]] = [
        NoiseMeter(experiment, problem, noise_record),
        HessianMeter(experiment, problem, HessianRecord(folder.path), state.optimizer),
    ]
    steps = number_of_steps(experiment.training, len(problem.train))
    with (
        MetricsFile(folder.metrics, keep_until=state.step if resumed else None) as metrics,
        Progress(folder.path.name, steps, start=state.step) as progress,
    ):
        recorder = Recorder(folder, metrics, progress, epoch_length=len(problem.train))
        yield Monitor(experiment, problem, checkpoints, recorder, meters, interruption)
