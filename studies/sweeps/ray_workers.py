"""The runs of a sweep as tasks of a Ray cluster: one whose process or machine is lost continues elsewhere."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from tqdm import tqdm

from ...configs.load import parse_experiment
from ...errors import UserError, first_line
from ...training.run_folder import FINISHED, RunBusyError, RunFolder
from ...training.signals import Interruption
from .plan import Trial
from .workers import SECONDS_BETWEEN_POLLS, Ended, attempt, prepare

SECONDS_TO_LET_GO = 180.0
"""How long a run folder may stay locked by a machine that was lost; an NFS server keeps its locks for a while."""


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


SECONDS_TO_ANSWER = 10.0

OBJECT_STORE_BYTES = 100 * 2**20
"""Memory of a cluster that is started here, for passing objects; the tasks of a sweep pass a few words."""


class RayCluster:
    """A cluster, joined when it is first needed.

    Args:
        address: of a running one, ``auto`` or ``HOST:PORT``; by default one is started on this machine.

    Attributes:
        ray: the library, which is imported here and nowhere else.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(self, address: str | None = None) -> None:
        self.ray = _import_ray()
        self._address = address

    def join(self) -> None:
        """Join the cluster, or start it.

        Raises:
            UserError: it does not answer, or does not start.
        """
        if self.ray.is_initialized():
            return
        local = {"address": "local", "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        where = local if self._address is None else {"address": self._address}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            _check_address(self._address)
            self.ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises several kinds, a bare Exception among them
            option = "--launcher ray" if self._address is None else f"--address {self._address}"
            raise UserError(f"{option}: {first_line(error)}") from error
        # Ray has set one of its own, which would end the sweep at once.
        if signal.getsignal(signal.SIGTERM) is not handler:
            signal.signal(signal.SIGTERM, handler)

    def leave(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        self.ray.shutdown()

    def has_gpus(self) -> bool:
        """Whether some machine has one."""
        return self.ray.cluster_resources().get("GPU", 0) > 0

    def capacity(self, cpus: float, gpus: float) -> int:
        """How many tasks its machines could do at a time, each of which takes so many cores and GPUs."""
        wanted = {name: amount for name, amount in {"CPU": cpus, "GPU": gpus}.items() if amount > 0}
        machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        # Rounded as Ray does, so that 0.1 fits ten times into 1.
        return sum(min(int(round(has.get(name, 0) / need, 4)) for name, need in wanted.items()) for has in machines)


def _import_ray() -> ModuleType:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # else a cluster started here reports on itself over the network
    try:
        import ray
    except ImportError:
        raise UserError('--launcher ray needs Ray: pip install "whyadam[ray]"') from None
    return ray


def _check_address(address: str | None) -> None:
    """Ray itself would try for minutes.

    Raises:
        OSError: nothing listens at ``HOST:PORT``.
    """
    host, _, port = (address or "").rpartition(":")
    if port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()


RETRIES = 3
"""How often a run is begun again after its process or machine was lost."""

SECONDS_TO_BE_SEEN = 60.0
"""How late a shared folder may show here what another machine has written into it."""


@dataclass(frozen=True)
class _Attempt:
    """A run to hand to Ray, and how often it was lost before."""

    trial: Trial
    losses: int = 0


class RayWorkers:
    """A launcher of Ray tasks, one per run.

    Args:
        jobs: how many runs at a time at most; by default as many as the cluster has capacity for.
        address: of a running cluster, ``auto`` or ``HOST:PORT``; by default one is started on this machine.
        cpus: cores of a run; it computes on as many threads.
        gpus: GPUs of a run, or the part of one; by default one where ``training.device`` is a GPU, or is ``auto`` and
            the cluster has GPUs.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(
        self, jobs: int | None = None, address: str | None = None, cpus: float = 1.0, gpus: float | None = None
    ) -> None:
        self.interruption = Interruption()
        self._cluster = RayCluster(address)
        self._ray = self._cluster.ray
        self._jobs = jobs
        self._cpus = cpus
        self._gpus = gpus
        self._waiting: deque[_Attempt] = deque()
        self._attempts: dict[Any, _Attempt] = {}

    @property
    def running(self) -> list[Trial]:
        """The active runs."""
        return [attempt.trial for attempt in self._attempts.values()]

    def run(self, trials: Sequence[Trial], out: Path) -> Iterator[Ended | None]:
        """Do some runs, none of them twice, below ``out``; see ``Launcher``.

        Raises:
            UserError: there is no such cluster, or none of its machines can hold a run.
        """
        self._cluster.join()
        gpus = self._gpus_of(trials)
        if self._capacity(gpus) == 0:
            raise UserError(
                f"no machine of the Ray cluster has {self._cpus:g} cores and {gpus:g} GPUs, as each run is to have; "
                "see --cpus-per-run and --gpus-per-run"
            )
        # Ray would repeat a lost task by itself, without marking it as a retry.
        remote = self._ray.remote(num_cpus=self._cpus, num_gpus=gpus, max_retries=0)(do_task)
        self._waiting.extend(map(_Attempt, trials))
        while (self._waiting or self._attempts) and self.interruption.signal is None:
            while self._waiting and len(self._attempts) < self._capacity(gpus):
                attempt = self._waiting.popleft()
                self._attempts[remote.remote(self._task(attempt, out, gpus))] = attempt
            yield None
            yield from self._poll(out)
        self._waiting.clear()
        for reference in self._attempts:
            self._ray.cancel(reference)
        while self._attempts:
            yield None
            yield from self._poll(out)

    def _poll(self, out: Path) -> Iterator[Ended]:
        """Wait a moment for attempts that end; those that were lost wait for their next."""
        if not self._attempts:
            time.sleep(SECONDS_BETWEEN_POLLS)
            return
        ready, _ = self._ray.wait(list(self._attempts), timeout=SECONDS_BETWEEN_POLLS)
        for reference in ready:
            attempt = self._attempts.pop(reference)
            try:
                report = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                yield Ended(attempt.trial, first_line(error.cause))
            except self._ray.exceptions.RayError as error:
                yield from self._lose(attempt, first_line(error))
            else:
                if report.failure is not None:
                    yield Ended(attempt.trial, report.failure)
                elif report.state in FINISHED:
                    yield Ended(attempt.trial, wait_to_see(attempt.trial.folder(out), report.state))
                else:
                    yield from self._lose(attempt, "it was signalled to stop")

    def _lose(self, attempt: _Attempt, reason: str) -> Iterator[Ended]:
        trial = attempt.trial
        if self.interruption.signal is not None:
            yield Ended(trial, None)
        elif attempt.losses == RETRIES:
            yield Ended(trial, f"its process or machine was lost {RETRIES + 1} times, the last time: {reason}")
        else:
            line = f"{trial.describe()}: its process or machine was lost, it goes on from its last checkpoint: {reason}"
            tqdm.write(line, file=sys.stderr)
            self._waiting.appendleft(replace(attempt, losses=attempt.losses + 1))

    def _task(self, attempt: _Attempt, out: Path, gpus: float) -> RayTask:
        return RayTask(
            # As plain values: classes of settings that were made on the fly cannot be pickled.
            values=attempt.trial.experiment.model_dump(mode="json"),
            out=out.absolute(),
            working_folder=Path.cwd(),
            threads=max(1, int(self._cpus)),
            has_gpu=gpus > 0,
            is_retry=attempt.losses > 0,
        )

    def _gpus_of(self, trials: Sequence[Trial]) -> float:
        """GPUs of one run."""
        if self._gpus is not None:
            return self._gpus
        devices = {trial.experiment.training.device.partition(":")[0] for trial in trials}
        return 1.0 if "cuda" in devices or ("auto" in devices and self._cluster.has_gpus()) else 0.0

    def _capacity(self, gpus: float) -> int:
        """How many runs may be active at a time."""
        capacity = self._cluster.capacity(self._cpus, gpus)
        return capacity if self._jobs is None else min(capacity, self._jobs)

    def __enter__(self) -> Self:
        self.interruption.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.interruption.__exit__(*exception)
        self._cluster.leave()


def wait_to_see(folder: RunFolder, state: str) -> str | None:
    """Wait until this machine sees how a run has ended on another; if it never does, the line that says so."""
    deadline = time.monotonic() + SECONDS_TO_BE_SEEN
    while folder.read_status().get("state") != state:
        if time.monotonic() > deadline:
            return f"it is {state}, but its folder is not seen here: --out must be a folder that all machines share"
        time.sleep(SECONDS_BETWEEN_POLLS)
    return None
