"""What happens in a process of a Ray cluster that does a run of a sweep."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...configs.load import parse_experiment
from ...training.run_folder import RunBusyError, RunFolder
from .worker import attempt, prepare

SECONDS_TO_LET_GO = 180.0
"""How long a run folder may stay locked by a machine that is gone; an NFS server keeps its locks for a while."""


@dataclass(frozen=True)
class RayTask:
    """One attempt at a run, as it travels to another machine.

    Attributes:
        values: of the experiment.
        out: folder for run folders, absolute.
        working_folder: where the sweep was started; relative paths of a config begin there.
        threads: to compute on.
        has_gpu: whether the run may use a GPU; Ray says which one.
        is_retry: whether an attempt before has lost its process or its machine.
    """

    values: dict[str, Any]
    out: Path
    working_folder: Path
    threads: int
    has_gpu: bool
    is_retry: bool


@dataclass(frozen=True)
class RayReport:
    """How an attempt has ended.

    Attributes:
        state: that of status.json, as the process that wrote it sees it.
        failure: the line that says why the run failed, if it did.
    """

    state: str | None
    failure: str | None


def do_task(task: RayTask) -> RayReport:
    """Do the run, or go on with it, in this process."""
    if not task.has_gpu:
        # Ray hides them only from tasks that have asked for some.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with suppress(FileNotFoundError):
        os.chdir(task.working_folder)
    prepare(task.threads)
    folder = RunFolder.of(parse_experiment(task.values, source="sweep"), task.out)
    if task.is_retry:
        with suppress(RunBusyError):
            folder.lock(patience=SECONDS_TO_LET_GO).release()
    with _streams_put_back():
        failure = attempt(task.values, task.out)
    return RayReport(folder.read_status().get("state"), failure)


@contextmanager
def _streams_put_back() -> Iterator[None]:
    """What a run redirects goes back afterwards: Ray itself prints between two tasks."""
    kept = [(stream, os.dup(stream)) for stream in (1, 2)]
    try:
        yield
    finally:
        for stream, copy in kept:
            os.dup2(copy, stream)
            os.close(copy)
