"""``whyadam sweep`` and ``whyadam best`` as a user meets them, signals included."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from whyadam.configs.load import load_experiment
from whyadam.training.checkpoint import Checkpoints
from whyadam.training.metrics import read_metrics
from whyadam.training.run import run_experiment
from whyadam.training.run_folder import RunFolder

COMMAND = (sys.executable, "-m", "whyadam.cli")

SLOW_SGD = """
import os, time, torch

class SlowSGD(torch.optim.SGD):
    def step(self, closure=None):
        time.sleep(float(os.environ.get("SECONDS_A_STEP", 0)))
        return super().step(closure)
"""

SWEEP = """
config: config.yaml
seeds: 0..1
arms:
  slow: {set: {optimizer.name: "slow_sgd:SlowSGD", optimizer.lr: 0.1}}
  broken: {set: {model.name: gpt2_nano, task.name: causal_lm, data.name: text_file, data.path: missing.txt}}
"""


def whyadam(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture
def folder(tmp_path: Path, mlp_config: dict[str, Any]) -> Path:
    """A folder with a sweep: two runs that can be made slow, and two that fail."""
    mlp_config["training"] |= {"steps": 300, "log_every": 2, "eval_every": 100, "checkpoint_every": 10_000}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(mlp_config))
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    (tmp_path / "slow_sgd.py").write_text(SLOW_SGD)
    return tmp_path


def begin(folder: Path, jobs: int) -> subprocess.Popen[str]:
    """A sweep in a process group of its own, once as many of its slow runs are at work as it does at a time."""
    process = subprocess.Popen(
        [*COMMAND, "sweep", "sweep.yaml", "--jobs", str(jobs)],
        cwd=folder,
        env=os.environ | {"SECONDS_A_STEP": "0.3"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if sum(bool(read_metrics(metrics)[1:]) for metrics in folder.rglob("metrics.csv")) == jobs:
            return process
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    raise TimeoutError("the runs did not begin")


def state_of(run: Path) -> str:
    return str(RunFolder(run).read_status()["state"])


def test_ctrl_c_leaves_checkpoints_and_the_same_line_goes_on(folder: Path) -> None:
    """As a terminal sends it: to the whole group. The runs that fail are named, and make the exit code 1."""
    process = begin(folder, jobs=1)
    os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in printed
    assert "the same line goes on with it" in printed
    (cut,) = [metrics.parent for metrics in folder.rglob("metrics.csv")]
    assert state_of(cut) == "interrupted"
    assert Checkpoints(cut / "checkpoints").steps()[-1] < 300

    again = whyadam("sweep", "sweep.yaml", cwd=folder)
    assert again.returncode == 1
    assert "Traceback" not in again.stderr
    assert "\r" not in again.stderr, "a progress bar in a file"
    assert len([line for line in again.stderr.splitlines() if "] slow seed" in line and ": done, " in line]) == 2
    for line in again.stderr.splitlines()[-2:]:
        assert line.startswith("runs/tiny/sgd-lr0.1-seed")
        assert "missing.txt" in line
    overrides = ["optimizer.name=torch.optim:SGD", "optimizer.lr=0.1"]
    whole = run_experiment(load_experiment(folder / "config.yaml", overrides), folder / "whole").folder
    assert without_seconds(cut) == without_seconds(whole.path)

    best = whyadam("best", "runs", "--out", "best.csv", cwd=folder)
    assert best.returncode == 0, best.stderr
    assert best.stderr == "warning: tiny: slow_sgd:SlowSGD has one setting, nothing was tuned\n"
    assert (folder / "best.csv").read_text().count("\n") == 2
    drawn = whyadam("figure", "sensitivity", "runs", "--out", "picture", cwd=folder)
    assert drawn.stdout.split()[:2] == ["picture.png", "picture.pdf"]


def without_seconds(run: Path) -> list[dict[str, str]]:
    return [row | {"seconds": ""} for row in read_metrics(run / "metrics.csv")]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_the_command_alone_is_ended(folder: Path, number: signal.Signals, exit_code: int) -> None:
    """By a job scheduler, or for want of memory: its workers write their checkpoints and end, too."""
    process = begin(folder, jobs=2)
    process.send_signal(number)
    assert process.wait(timeout=60) == exit_code
    runs = [metrics.parent for metrics in folder.rglob("metrics.csv")]
    wait_until(lambda: {state_of(run) for run in runs} == {"interrupted"})
    assert all(Checkpoints(run / "checkpoints").steps() for run in runs)
    wait_until(lambda: not is_alive(process.pid))


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_differs_between_arms_is_told_before_they_train(folder: Path) -> None:
    arguments = ["--grid", "optimizer.name=sgd,adam", "-s", "optimizer.weight_decay=0.1", "--print-commands"]
    printed = whyadam("sweep", "config.yaml", *arguments, cwd=folder)
    assert "config.yaml: optimizer.lr=0.1 of the file does not apply to adam\n" in printed.stderr
    assert "sgd: optimizer.name=sgd optimizer.lr=0.1 optimizer.momentum=0.0" in printed.stderr
    assert "adam: optimizer.name=adam optimizer.lr=0.001 optimizer.betas=[0.9, 0.999]" in printed.stderr
    assert len(printed.stdout.splitlines()) == 2


def test_printed_commands_run_nothing(folder: Path) -> None:
    grid = ["--grid", "optimizer.name=sgd,adam", "--grid", "optimizer.lr=1e-3,0.1"]
    answer = whyadam(
        "sweep", "config.yaml", *grid, "--seeds", "0,4", "--out", "some runs", "--print-commands", cwd=folder
    )
    assert answer.returncode == 0, answer.stderr
    lines = [shlex.split(line) for line in answer.stdout.splitlines()]
    assert len(lines) == 8
    first = "whyadam train config.yaml -s optimizer.name=sgd -s optimizer.lr=0.001 --seed 0 --out"
    assert lines[0] == [*first.split(), "some runs"]
    assert not (folder / "some runs").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--grid", "optimizer.lrr=1,2"], "optimizer.lrr: unknown key; did you mean lr?"),
        (["--grid", "optimizer.lr"], "should be dotted.key=a,b,c"),
        (["--seeds", "1-3"], "should be a range such as 0..2"),
        (["-s", "seed=3"], "a sweep has its seeds in seeds"),
        (["--address", "auto"], "--address: goes with --launcher ray"),
        (["--gpus-per-run", "0"], "--gpus-per-run: goes with --launcher ray"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(folder: Path, arguments: list[str], expected: str) -> None:
    answer = whyadam("sweep", "config.yaml", *arguments, cwd=folder)
    assert answer.returncode == 2
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    assert expected in answer.stderr


def test_without_ray_its_launcher_says_how_to_install_it(folder: Path) -> None:
    (folder / "ray.py").write_text("raise ImportError")
    answer = whyadam("sweep", "config.yaml", "--launcher", "ray", cwd=folder)
    assert (answer.returncode, answer.stderr) == (
        2,
        'whyadam: --launcher ray needs Ray: pip install "whyadam[ray]"\n',
    )
