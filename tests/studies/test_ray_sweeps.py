"""Sweeps on a Ray cluster, and what happens in one of its processes."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from whyadam.configs.load import parse_experiment
from whyadam.studies.sweeps import ray_workers
from whyadam.studies.sweeps.plan import load_sweep, plan
from whyadam.studies.sweeps.ray_workers import RayTask, do_task
from whyadam.studies.sweeps.sweep import run_sweep
from whyadam.training.checkpoint import Checkpoints
from whyadam.training.metrics import read_metrics
from whyadam.training.run import run_experiment
from whyadam.training.run_folder import RunFolder

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")
# Ray gives its own processes 15 seconds to start, whatever else the machine does.
starts_ray = pytest.mark.flaky(reruns=2)

NOTING = Path(__file__).with_name("noting.py")
STEPS = 900  # so slow a run that none is done when the last one begins on a busy machine
CONFIG = {
    "name": "tiny",
    "model": {"name": "mlp", "hidden": [16]},
    "data": {"name": "mnist5k"},
    "task": {"name": "classification"},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "training": {
        "steps": STEPS,
        "batch_size": 16,
        "eval_every": 100,
        "eval_examples": 64,
        "log_every": 5,
        "checkpoint_every": 10,
    },
}
RATES = (0.01, 0.02, 0.03)
TOKEN = secrets.token_hex(32)  # one for all clusters: Ray reads it once in a process


class Sweeps:
    """A folder of sweeps whose runs are slow until it says go, and what they have noted."""

    def __init__(self, folder: Path) -> None:
        (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
        shutil.copy(NOTING, folder)
        self.folder = folder
        self.out = folder / "runs"
        self.process: subprocess.Popen[str] | None = None

    def write(self, optimizers: dict[str, list[float]]) -> Path:
        """A sweep file with an arm for each optimizer."""
        arms = {
            name.lower(): {"set": {"optimizer.name": f"noting:{name}"}, "grid": {"optimizer.lr": rates}}
            for name, rates in optimizers.items()
        }
        path = self.folder / "sweep.yaml"
        path.write_text(yaml.safe_dump({"config": "config.yaml", "arms": arms}))
        return path

    def begin(self, *options: str) -> None:
        """``whyadam sweep --launcher ray``, in a process group of its own as from a terminal."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "whyadam.cli", "sweep", "sweep.yaml", "--launcher", "ray", *options],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_until(self, holds: Callable[[], Any]) -> None:
        """While the command runs."""
        deadline = time.monotonic() + 240
        while not holds():
            assert self.process.poll() is None, self.end()
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it told on standard error."""
        _, told = self.process.communicate(timeout=240)
        return self.process.returncode, told

    def kill(self) -> None:
        """Let no command outlive a test that failed."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def noted(self, name: object) -> list[tuple[int, int]]:
        """Parent and process of each step of a run."""
        lines = (self.folder / "steps").read_text().splitlines() if (self.folder / "steps").exists() else []
        return [(int(parent), int(process)) for run, parent, process in map(str.split, lines) if run == str(name)]

    def run_folder(self, lr: float) -> RunFolder:
        (path,) = self.out.glob(f"*/*-lr{lr:g}-*")
        return RunFolder(path)

    def checkpoints(self, lr: float) -> list[int]:
        try:
            return Checkpoints(self.run_folder(lr).checkpoints).steps()
        except ValueError:
            return []

    def is_like_undisturbed(self, lr: float) -> bool:
        """Whether a run has the rows and the weights of one in this process that nothing has happened to."""
        (trial,) = (
            trial for trial in plan(load_sweep(self.folder / "sweep.yaml")) if trial.point["optimizer.lr"] == lr
        )
        return results(run_experiment(trial.experiment, self.folder / "alone").folder) == results(self.run_folder(lr))


def results(folder: RunFolder) -> tuple[list[dict[str, str]], dict[str, bytes]]:
    rows = [row | {"seconds": ""} for row in read_metrics(folder.metrics)]
    checkpoint = torch.load(Checkpoints(folder.checkpoints).path(STEPS), weights_only=True)
    return rows, {name: tensor.numpy().tobytes() for name, tensor in checkpoint["model"].items()}


@contextmanager
def sweeps_in(folder: Path) -> Iterator[Sweeps]:
    """Its runs are computed on one thread, here as well; Ray's processes inherit where their optimizers are.

    With a token of ours, a cluster lets nobody else in, and leaves none in the home folder.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", TOKEN)
        patch.syspath_prepend(folder)
        sweeps = Sweeps(folder)
        try:
            yield sweeps
        finally:
            sweeps.kill()
            sys.modules.pop("noting", None)
            torch.set_num_threads(threads)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Any, Sweeps]]:
    """Three nodes that do one run at a time; new ones for each test, and for each time that it is tried again."""
    with sweeps_in(tmp_path) as sweeps:
        from ray.cluster_utils import Cluster  # reads the environment

        node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        cluster.add_node(**node)
        cluster.add_node(**node)
        yield cluster, sweeps
        cluster.shutdown()


def raylet_of(node: Any) -> int:
    """The process that starts those of a node's tasks."""
    return int(node.all_processes["raylet"][0].process.pid)


@needs_ray
@starts_ray
@pytest.mark.slow
def test_runs_go_on_elsewhere_when_a_node_or_a_process_is_lost(cluster: tuple[Any, Sweeps]) -> None:
    """A loss that ends the sweep or its run, a run begun anew, other numbers after it; a failing run tried again."""
    nodes, sweeps = cluster
    sweeps.write({"Failing": [1.0], "Slow": list(RATES)})
    sweeps.begin("--address", nodes.address)
    sweeps.wait_until(lambda: all(len(sweeps.checkpoints(lr)) == 2 for lr in RATES))
    before = {lr: sweeps.noted(lr)[-1] for lr in RATES}
    assert all(sweeps.run_folder(lr).read_status()["state"] == "running" for lr in RATES)
    assert len({node for node, _ in before.values()}) == 3

    others = {raylet_of(node): node for node in nodes.worker_nodes}  # the command is connected to the head
    on_lost_node, killed, stopped = sorted(RATES, key=lambda lr: before[lr][0] not in others)
    nodes.remove_node(others[before[on_lost_node][0]], allow_graceful=False)
    os.kill(before[killed][1], signal.SIGKILL)
    os.kill(before[stopped][1], signal.SIGTERM)
    (sweeps.folder / "go").touch()
    exit_code, told = sweeps.end()

    assert exit_code == 1, told
    assert told.count("it goes on from its last checkpoint") == 3
    assert "noting.py:31: optimizer.name: noting:Failing fails in step(): no step today" in told
    assert len(sweeps.noted("failing")) == 1
    for lr in RATES:
        steps = sweeps.noted(lr)
        lost_steps = len(steps) - STEPS
        assert lost_steps in ([0] if lr == stopped else range(11)), "a stopped process writes a last checkpoint"
        assert (steps[-1][1] == before[lr][1]) == (lr == stopped), "its process was not hit"
        assert steps[-1][0] != before[on_lost_node][0]
        assert sweeps.is_like_undisturbed(lr)


@needs_ray
@starts_ray
@pytest.mark.slow
def test_a_run_that_kills_its_process_is_given_up(cluster: tuple[Any, Sweeps], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is tried for ever, and a sweep that never ends."""
    nodes, sweeps = cluster
    monkeypatch.setattr(ray_workers, "RETRIES", 1)
    sweep = load_sweep(sweeps.write({"Deadly": [1.0]}))
    (outcome,) = run_sweep(sweep, sweeps.out, launcher=ray_workers.RayWorkers(address=nodes.address)).outcomes
    assert outcome.state == "failed"
    assert str(outcome.error).startswith("its process or machine was lost 2 times")
    assert len(sweeps.noted("deadly")) == 2


@needs_ray
@starts_ray
@pytest.mark.slow
def test_ctrl_c_leaves_checkpoints_and_the_same_line_goes_on(tmp_path: Path) -> None:
    """On a cluster that the command starts and ends itself: Ctrl-C reaches Ray's processes as well as the command."""
    first, second = RATES[:2]
    with sweeps_in(tmp_path) as sweeps:
        sweeps.write({"Slow": [first, second]})
        sweeps.begin("--jobs", "1")
        sweeps.wait_until(lambda: len(sweeps.noted(first)) > 25)
        os.killpg(sweeps.process.pid, signal.SIGINT)
        exit_code, told = sweeps.end()
        assert exit_code == 130, told
        assert "Traceback" not in told
        assert "the same line goes on with it" in told
        assert not sweeps.noted(second), "a run was begun after Ctrl-C, or more than --jobs at a time"
        assert sweeps.run_folder(first).read_status()["state"] == "interrupted"
        assert sweeps.checkpoints(first)[-1] == len(sweeps.noted(first)), "the steps since the last one were lost"

        (sweeps.folder / "go").touch()
        sweeps.begin("--jobs", "1")
        exit_code, told = sweeps.end()
        assert exit_code == 0, told
        assert len(sweeps.noted(first)) == STEPS
        assert sweeps.is_like_undisturbed(first)


@pytest.mark.parametrize("is_retry", [True, False])
def test_only_a_retry_waits_for_a_run_folder_that_is_still_locked(
    is_retry: bool, mlp_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost machine's lock, which its file server keeps for a while, would end the run as busy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    folder = RunFolder.of(parse_experiment(mlp_config, "test"), tmp_path)
    locked = threading.Event()

    def hold() -> None:
        with folder.lock():
            locked.set()
            time.sleep(1.0)

    holder = threading.Thread(target=hold)
    holder.start()
    locked.wait()
    report = do_task(RayTask(mlp_config, tmp_path, tmp_path, threads, has_gpu=False, is_retry=is_retry))
    holder.join()
    assert (report.failure is None) == is_retry, report.failure
    assert report.state == ("done" if is_retry else None)


def test_a_run_is_over_when_this_machine_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a shared folder that shows things late, a finished run would count as interrupted."""
    folder = RunFolder(tmp_path)
    later = threading.Timer(0.5, lambda: folder.write_status(state="done"))
    later.start()
    assert ray_workers.wait_to_see(folder, "done") is None
    later.join()
    monkeypatch.setattr(ray_workers, "SECONDS_TO_BE_SEEN", 0.3)
    assert "--out must be a folder that all machines share" in str(ray_workers.wait_to_see(folder, "diverged"))
