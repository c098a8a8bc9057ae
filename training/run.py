"""From an experiment to a finished run folder: build, resume, train, and leave the right status behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..configs.schema import Experiment, check_length
from ..errors import DivergedError, UserError
from ..hessian.record import HessianRecord
from ..noise.record import NoiseRecord
from ..optimizers import build_optimizer
from ..progress import Progress
from ..tasks.problem import Problem, build_problem
from .checkpoint import Checkpoints, TrainingState
from .devices import forget_peak_memory, peak_memory_mib
from .distributed import Ranks, joined_ranks
from .hessian_meter import HessianMeter
from .loop import train
from .metrics import MetricsFile, rows_until
from .monitor import Meter, Observer, Recorder
from .noise_meter import NoiseMeter
from .run_folder import RunFolder, describe_environment
from .schedules import number_of_steps
from .signals import Interrupted, Interruption


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        state: ``done``, ``diverged`` or ``interrupted``, as in status.json.
        folder: where its files lie.
        was_finished: whether there was nothing left to do.
        exit_code: what a shell should be told: 0, or 130 or 143 after a signal.
        is_first_rank: whether it is for this process to say so, if several have trained together.
    """

    state: str
    folder: RunFolder
    was_finished: bool = False
    exit_code: int = 0
    is_first_rank: bool = True


def run_experiment(experiment: Experiment, out: Path) -> RunResult:
    """Train an experiment in its run folder, or go on with it, or leave it alone if it is finished.

    Under torchrun all its processes train together, and the first one has the folder.

    Raises:
        RunBusyError: another living process works in the folder.
        ValueError: the data or a device is not there, or the parts do not fit; one line.
        ConnectionError: another of the processes is gone.
    """
    folder = RunFolder.of(experiment, out)
    if experiment.training.steps is not None and not Checkpoints(folder.checkpoints).steps():
        check_length(experiment, experiment.training.steps)
    with joined_ranks() as ranks, ExitStack() as lock:
        with ranks.failing_together():
            if ranks.is_first:
                lock.enter_context(folder.lock())
        (is_finished,) = ranks.gather(folder.is_finished())
        if is_finished[0]:
            state = folder.read_status()["state"]
            return RunResult(state, folder, was_finished=True, is_first_rank=ranks.is_first)
        try:
            return _run(experiment, folder, ranks)
        except BaseException as error:
            ending = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            # A full disk takes no status either; what went wrong first is what the user must hear of.
            with suppress(OSError):
                if ranks.is_first:
                    folder.write_status(state=ending, error=reason)
            raise


def _run(experiment: Experiment, folder: RunFolder, ranks: Ranks) -> RunResult:
    with ranks.failing_together():
        device = ranks.device(experiment.training.device)
        forget_peak_memory(device)
        if ranks.is_first:
            folder.write_config(experiment)
            status = {"device": str(device), "processes": ranks.size, "error": None}
            folder.write_status(state="running", **status, **describe_environment())
        problem = build_problem(experiment.model, experiment.data, experiment.task, experiment.seed)
        is_sharded = experiment.training.shard and not ranks.is_alone
        home = torch.device("cpu") if is_sharded else device
        problem.model.to(home).train()
        optimizer = build_optimizer(experiment.optimizer, problem.model.named_parameters())
        state = TrainingState(problem.model, optimizer)
        checkpoints = Checkpoints(folder.checkpoints, experiment.training.keep_checkpoints)
        resumed = _restore(state, checkpoints, folder.metrics, home, ranks)
        if not resumed:
            check_length(experiment, number_of_steps(experiment.training, len(problem.train)))
    _check_same_start(state, ranks)
    interruption = Interruption(is_patient=not ranks.is_alone)
    observing = (
        _observer(experiment, problem, folder, state, interruption, resumed) if ranks.is_first else nullcontext()
    )
    with observing as observer, interruption:
        ending, error = "done", None
        try:
            train(experiment, problem, state, observer, interruption, ranks)
        except Interrupted as stop:
            ending, interruption.signal = "interrupted", stop.signal
        except DivergedError as divergence:
            ending, error = "diverged", str(divergence)
        # The others stay until the first one has written: torchrun ends all when one is gone.
        with ranks.failing_together():
            if observer is not None:
                observer.recorder.write_status(state, ending, error=error)
                folder.write_status(peak_memory_mib=peak_memory_mib(device))
    exit_code = interruption.exit_code if ending == "interrupted" else 0
    return RunResult(ending, folder, exit_code=exit_code, is_first_rank=ranks.is_first)


@contextmanager
def _observer(
    experiment: Experiment,
    problem: Problem,
    folder: RunFolder,
    state: TrainingState,
    interruption: Interruption,
    resumed: bool,
) -> Iterator[Observer]:
    """What writes into the run folder from here on; what had been written after the state is removed."""
    checkpoints = Checkpoints(folder.checkpoints, experiment.training.keep_checkpoints)
    checkpoints.drop_old()
    noise_record = NoiseRecord(folder.path)
    noise_record.cut(state.step)
    meters: list[Meter] = [
        NoiseMeter(experiment, problem, noise_record),
        HessianMeter(experiment, problem, HessianRecord(folder.path), state.optimizer),
    ]
    steps = number_of_steps(experiment.training, len(problem.train))
    with (
        MetricsFile(folder.metrics, keep_until=state.step if resumed else None) as metrics,
        Progress(folder.path.name, steps, start=state.step) as progress,
    ):
        recorder = Recorder(folder, metrics, progress, epoch_length=len(problem.train))
        yield Observer(experiment, problem, checkpoints, recorder, meters, interruption)


def _check_same_start(state: TrainingState, ranks: Ranks) -> None:
    """All ranks have read the checkpoint before the first one changes the folder.

    Raises:
        UserError: they have read different ones.
    """
    (steps,) = ranks.gather(state.step)
    if len(set(steps)) > 1:
        raise UserError(f"--out: not every process sees the same run folder; they start from steps {steps}")


def _restore(state: TrainingState, checkpoints: Checkpoints, metrics: Path, device: torch.device, ranks: Ranks) -> bool:
    """Go back to the last checkpoint that is whole and whose rows of metrics.csv are there; whether there is one."""

    def has_its_rows(checkpoint: dict[str, Any]) -> None:
        step, wanted = checkpoint["step"], checkpoint.get("rows", 0)
        if (found := len(rows_until(metrics, step))) < wanted:
            raise ValueError(f"{metrics}: {found} whole rows up to step {step}, where {wanted} had been written")

    checkpoint, complaints = checkpoints.load_last(device, has_its_rows)
    before = "the one before" if checkpoint else "the beginning"
    for complaint in complaints if ranks.is_first else []:
        print(f"{complaint}; going on from {before}", file=sys.stderr)
    if checkpoint is None:
        return False
    try:
        state.restore(checkpoint)
    except ValueError as error:
        raise UserError(f"{checkpoints.path(checkpoint['step'])}: {error}") from error
    return True
