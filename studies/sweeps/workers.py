"""Launchers do the runs of a sweep; here in processes of this machine, ``ray_workers`` on a Ray cluster.

A worker process does one run after another; when it dies, only its present run fails.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol, Self

from ...configs.load import parse_experiment
from ...errors import UserError
from ...memory import keep_freed_memory
from ...training.run_folder import RunFolder
from ...training.signals import Interruption
from .plan import Trial

LOG = "output.log"
"""File in a run folder: what the run printed, progress and traceback included."""


def serve(connection: Connection) -> None:
    """Do one run after another until the other end is closed.

    Args:
        connection: in come the values of an experiment with the folder for run folders; out go None, or the line that
            says why the run failed.
    """
    # Only a run in training answers a signal; the parent repeats its own until that has happened.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    prepare(threads=1)
    with suppress(EOFError, BrokenPipeError):
        while True:
            connection.send(attempt(*connection.recv()))


def prepare(threads: int) -> None:
    """Make this process ready for runs: so many threads, memory, and nothing that stays behind if it is killed."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    keep_freed_memory()

    import torch
    from tqdm import tqdm

    torch.set_num_threads(threads)
    tqdm.set_lock(threading.RLock())  # its own is shared between processes, and stays behind if this one is killed


def attempt(values: dict[str, Any], out: Path) -> str | None:
    """Do one run, or go on with it; what it prints goes to ``output.log`` in its folder.

    Args:
        values: of the experiment.
        out: folder for run folders.

    Returns:
        The line that says why it failed, if it did.
    """
    from ...training.run import run_experiment

    try:
        experiment = parse_experiment(values, source="sweep")
        _print_to(RunFolder.of(experiment, out).path / LOG)
        run_experiment(experiment, out)
    except UserError as error:
        if error.__cause__ is not None:  # the log shows where in the user's own code
            traceback.print_exc()
        return str(error)
    except Exception as error:
        traceback.print_exc()
        return " ".join(f"{type(error).__name__}: {error}".split())
    finally:
        sys.stdout.flush()
    return None


def _print_to(path: Path) -> None:
    """Redirect all further output of this process to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _stop_with_parent() -> None:
    """When the parent has died, ask the active run for a last checkpoint; the process ends after it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)


SECONDS_BETWEEN_POLLS = 0.2


@dataclass(frozen=True)
class Ended:
    """A run that is no longer active.

    Attributes:
        trial: what was run.
        failure: the line that says why it failed; None where it ended as runs do, or by a signal to all.
    """

    trial: Trial
    failure: str | None


class Launcher(Protocol):
    """While entered, does runs; a first SIGINT or SIGTERM ends them after a last checkpoint.

    Attributes:
        interruption: the signal, once it has come.
    """

    interruption: Interruption

    @property
    def running(self) -> list[Trial]:
        """The active runs."""

    def run(self, trials: Sequence[Trial], out: Path) -> Iterator[Ended | None]:
        """Do some runs, none of them twice, below ``out``.

        After a signal no other run begins.

        Yields:
            Each run when it has ended; in between, several times a second, None.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


SECONDS_TO_DIE = 5.0


class Workers:
    """A launcher of up to ``jobs`` processes."""

    def __init__(self, jobs: int) -> None:
        self.interruption = Interruption()
        self._jobs = jobs
        self._workers: list[_Worker] = []

    @property
    def running(self) -> list[Trial]:
        """The active runs."""
        return [worker.trial for worker in self._workers if worker.trial is not None]

    def run(self, trials: Sequence[Trial], out: Path) -> Iterator[Ended | None]:
        """Do some runs; see ``Launcher``."""
        waiting = deque(trials)
        while waiting or self.running:
            interrupted = self.interruption.signal is not None
            if interrupted:
                waiting.clear()
            self._staff(len(waiting))
            for worker in self._workers:
                if interrupted:
                    worker.interrupt()
                elif worker.trial is None and waiting:
                    worker.begin(waiting.popleft(), out)
            yield None
            wait([worker.connection for worker in self._workers if worker.trial is not None], SECONDS_BETWEEN_POLLS)
            yield from filter(None, [worker.poll(interrupted) for worker in self._workers])

    def _staff(self, waiting: int) -> None:
        """Replace idle workers that have died, and take on as many as there is work for."""
        for worker in [worker for worker in self._workers if not worker.is_usable()]:
            worker.end()
            self._workers.remove(worker)
        while len(self._workers) < min(self._jobs, len(self.running) + waiting):
            self._workers.append(_Worker())

    def __enter__(self) -> Self:
        self.interruption.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.interruption.__exit__(*exception)
        for worker in self._workers:
            worker.end()


class _Worker:
    """A process that does one run after another, on one thread."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other_end = context.Pipe()
        # Not a daemon: runs may start processes of their own, for data or curvature.
        self._process = context.Process(target=serve, args=(other_end,), name="whyadam-sweep")
        with _ctrl_c_blocked():
            self._process.start()
        other_end.close()
        self.trial: Trial | None = None

    def is_usable(self) -> bool:
        """Whether it is active or could be."""
        return self.trial is not None or self._process.is_alive()

    def begin(self, trial: Trial, out: Path) -> None:
        """Give the process its next run."""
        self.trial = trial
        with suppress(BrokenPipeError):  # it has died: poll will see it
            # As plain values: classes of settings that were made on the fly cannot be pickled.
            self.connection.send((trial.experiment.model_dump(mode="json"), out))

    def poll(self, interrupted: bool) -> Ended | None:
        """The run that has just ended, if one has; ``interrupted``: whether the process was signalled to end it."""
        trial = self.trial
        if trial is None:
            return None
        was_alive = self._process.is_alive()
        with suppress(EOFError, ConnectionResetError):
            if self.connection.poll():
                failure = self.connection.recv()
                self.trial = None
                return Ended(trial, failure)
            if was_alive:
                return None
        self._process.join(SECONDS_TO_DIE)
        self.end()
        self.trial = None
        return Ended(trial, None if interrupted else _describe_death(self._process.exitcode))

    def interrupt(self) -> None:
        """Ask for a last checkpoint; it does no harm to ask again."""
        if self.trial is not None and self._process.is_alive() and self._process.pid is not None:
            os.kill(self._process.pid, signal.SIGTERM)

    def end(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()
        self.connection.close()


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """What is started inside never sees Ctrl-C, which is for the parent to pass on; the parent sees it afterwards."""
    resource_tracker.ensure_running()  # else it would be started inside, and unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _describe_death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"its process was ended by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    return f"its process ended with exit code {exitcode}"
