"""Signals, two processes on one run, and clocks that jump."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from whyadam.configs.load import dump_experiment
from whyadam.training.checkpoint import Checkpoints
from whyadam.training.metrics import read_metrics
from whyadam.training.run import run_experiment
from whyadam.training.run_folder import RunBusyError

pytestmark = pytest.mark.faults


def test_of_two_processes_on_one_run_one_is_refused(victim: Any) -> None:
    """And the other's results are those of a run alone. Both succeed if one is over before the other begins."""
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(run_experiment(victim.experiment, victim.out).exit_code)
            except BaseException as error:
                os._exit(2 if isinstance(error, RunBusyError) else 1)
        pids.append(pid)
    codes = sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)
    assert codes in ([0, 2], [0, 0])
    victim.ends_like_undisturbed()


def test_the_wall_clock_may_jump(victim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By days, forwards and backwards, at every look at it; files come from the future and from 1970."""
    generator, truth = random.Random(0), time.time
    monkeypatch.setattr(time, "time", lambda: truth() + generator.uniform(-1e7, 1e7))
    child = victim.start()
    while not Checkpoints(victim.folder.checkpoints).steps():
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    for path, stamp in zip(victim.out.rglob("*"), itertools.cycle([0, 4e9]), strict=False):
        os.utime(path, (stamp, stamp))
    victim.ends_like_undisturbed()


def test_the_monotonic_clock_may_start_again(victim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does at a reboot; the seconds in metrics.csv go on from where they were."""
    child = victim.start()
    while len(Checkpoints(victim.folder.checkpoints).steps()) < 2:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    truth = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: truth() - 1e6)
    victim.ends_like_undisturbed()
    seconds = [float(row["seconds"]) for row in read_metrics(victim.folder.metrics)]
    assert seconds == sorted(seconds)
    assert seconds[-1] < 600


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_ends_as_a_shell_expects_of_a_signal(
    victim: Any, tmp_path: Path, number: int, exit_code: int
) -> None:
    """With a checkpoint of the step at which it came; the same line again finishes the run."""
    config = tmp_path / "config.yaml"
    config.write_text(dump_experiment(victim.experiment))
    command = [sys.executable, "-m", "whyadam.cli", "train", str(config), "--out", str(victim.out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not Checkpoints(victim.folder.checkpoints).steps():
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == exit_code
    assert "Traceback" not in errors
    status = victim.folder.read_status()
    assert status["state"] == "interrupted"
    assert Checkpoints(victim.folder.checkpoints).steps()[-1] == status["step"]
    victim.ends_like_undisturbed()
