"""The processes of a sweep: each lives through many runs, and one that dies takes only its own run with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import Self

from ...training.interruption import Interruption
from .launcher import SECONDS_BETWEEN_LOOKS, Ended
from .trials import Trial
from .worker import serve

SECONDS_TO_DIE = 5.0


class Workers:
    """A launcher of up to ``jobs`` processes."""

    def __init__(self, jobs: int) -> None:
        self.interruption = Interruption()
        self._jobs = jobs
        self._workers: list[_Worker] = []

    @property
    def running(self) -> list[Trial]:
        """The runs at work."""
        return [worker.trial for worker in self._workers if worker.trial is not None]

    def run(self, trials: Sequence[Trial], out: Path) -> Iterator[Ended | None]:
        """Do some runs, none of them twice, below ``out``; see ``Launcher``."""
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
            wait([worker.connection for worker in self._workers if worker.trial is not None], SECONDS_BETWEEN_LOOKS)
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
        """Whether it is at work or could be."""
        return self.trial is not None or self._process.is_alive()

    def begin(self, trial: Trial, out: Path) -> None:
        """Give the process its next run."""
        self.trial = trial
        with suppress(BrokenPipeError):  # it has died: poll will see it
            # As plain values: classes of settings that were made on the fly cannot be pickled.
            self.connection.send((trial.experiment.model_dump(mode="json"), out))

    def poll(self, interrupted: bool) -> Ended | None:
        """The run that has just ended, if one has; ``interrupted``: whether the process had been told to end it."""
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
