"""A run that was cut short and started again ends in the bytes of one that was not."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from tqdm import tqdm
from whyadam.configs.load import parse_experiment
from whyadam.configs.schema import Experiment
from whyadam.training.checkpoint import Checkpoints, load_checkpoint
from whyadam.training.metrics import read_metrics
from whyadam.training.run import RunResult, run_experiment
from whyadam.training.run_folder import RunBusyError, RunFolder

OPTIMIZERS = {
    "sgd": {"lr": 0.1},
    "adam": {"lr": 1e-3},
    "adamw": {"lr": 1e-3},
    "gclip": {"lr": 0.1, "clip": 1.0, "momentum": 0.9},
    "cclip": {"lr": 0.1, "clip": 1e-3, "momentum": 0.9},
    "acclip": {"lr": 1.0},
    "acclip_rms": {"lr": 1e-3},
    "signum": {"lr": 1e-3},
    "normalized_sgd": {"lr": 0.1},
}


def run_experiment_in_child(experiment: Experiment, out: Path) -> multiprocessing.Process:
    """A forked child has torch imported already: seconds saved for each of many runs. It exits with the run's code."""

    def work() -> None:
        # The progress bars' own lock is shared with forked children; one that is killed may never give it back.
        tqdm.set_lock(threading.RLock())
        os._exit(run_experiment(experiment, out).exit_code)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    return child


def wait_for_step(folder: RunFolder, step: int) -> None:
    """Until a checkpoint exists and metrics.csv has reached ``step``."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if Checkpoints(folder.checkpoints).steps() and int(read_metrics(folder.metrics)[-1]["step"]) >= step:
            return
        time.sleep(0.005)
    raise TimeoutError(f"{folder.path} did not reach step {step}")


def results(folder: RunFolder) -> tuple[list[dict[str, str]], Any]:
    """All rows without their wall-clock time, and the last checkpoint with the bytes of every tensor."""
    rows = [row | {"seconds": ""} for row in read_metrics(folder.metrics)]
    checkpoints = Checkpoints(folder.checkpoints)
    return rows, with_bytes(load_checkpoint(checkpoints.path(checkpoints.steps()[-1])))


def with_bytes(content: Any) -> Any:
    """Tensors replaced by their bytes, so that equality means equality to the last bit."""
    if isinstance(content, torch.Tensor):
        return content.numpy().tobytes()
    if isinstance(content, dict):
        return {key: with_bytes(value) for key, value in content.items()}
    return [with_bytes(value) for value in content] if isinstance(content, list | tuple) else content


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_killed_and_started_again_equals_uninterrupted(
    optimizer: str, gpt2_config: dict[str, Any], tmp_path: Path
) -> None:
    """Dropout on, two workers; catches any state (moments, random streams, data position, means) left out."""
    config = gpt2_config | {"optimizer": {"name": optimizer} | OPTIMIZERS[optimizer]}
    config["schedule"] = {"name": "cosine", "warmup_steps": 5}
    config["training"] |= {"steps": 40, "checkpoint_every": 7, "eval_every": 10, "workers": 2}
    experiment = parse_experiment(config, "test")
    whole = run_experiment(experiment, tmp_path / "whole").folder

    cut = RunFolder.of(experiment, tmp_path / "cut")
    child = run_experiment_in_child(experiment, tmp_path / "cut")
    wait_for_step(cut, 9)
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    assert cut.read_status()["state"] == "running"
    assert run_experiment(experiment, tmp_path / "cut").state == "done"

    assert results(cut) == results(whole)


def test_evaluation_and_workers_change_no_number(gpt2_config: dict[str, Any], tmp_path: Path) -> None:
    """Evaluation draws from its own random stream and workers prepare the same batches."""
    rows = {}
    for name, change in {
        "plain": {"eval_every": 1000, "workers": 0},
        "evaluated": {"eval_every": 1, "workers": 0},
        "workers": {"eval_every": 1000, "workers": 2},
    }.items():
        config = deepcopy(gpt2_config)
        config["training"] |= change
        folder = run_experiment(parse_experiment(config, "test"), tmp_path / name).folder
        rows[name] = [row | {"seconds": ""} for row in read_metrics(folder.metrics) if row["split"] == "train"]
    assert rows["plain"] == rows["evaluated"] == rows["workers"]


def test_the_optimizer_changes_neither_start_nor_data(gpt2_config: dict[str, Any], tmp_path: Path) -> None:
    first_rows = []
    for optimizer in ("sgd", "adam"):
        config = gpt2_config | {"optimizer": {"name": optimizer, "lr": 1e-3}}
        config["training"] = config["training"] | {"steps": 1, "log_every": 1}
        rows = read_metrics(run_experiment(parse_experiment(config, "test"), tmp_path).folder.metrics)
        first_rows.append([(row["loss"], row["grad_norm"]) for row in rows[:2]])
    assert first_rows[0] == first_rows[1]


def test_a_finished_run_is_left_alone(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    experiment = parse_experiment(mlp_config, "test")
    first = run_experiment(experiment, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in first.folder.path.rglob("*") if path.name != ".lock"}
    second = run_experiment(experiment, tmp_path)
    assert (first.was_finished, second.was_finished, second.state) == (False, True, "done")
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(
    mlp_config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mlp_config["training"] |= {"checkpoint_every": 2}
    experiment = parse_experiment(mlp_config, "test")
    folder = run_experiment(experiment, tmp_path / "whole").folder
    wanted = results(folder)
    last = Checkpoints(folder.checkpoints).path(6)
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    folder.write_status(state="running")
    assert run_experiment(experiment, tmp_path / "whole").state == "done"
    assert "step_000006.pt: not a complete checkpoint" in capsys.readouterr().err
    assert results(folder) == wanted


def test_a_second_process_on_the_same_run_is_refused(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    experiment = parse_experiment(mlp_config, "test")
    with RunFolder.of(experiment, tmp_path).lock(), pytest.raises(RunBusyError, match="another process"):
        run_experiment(experiment, tmp_path)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint_and_the_run_goes_on(
    gpt2_config: dict[str, Any], tmp_path: Path, number: int, exit_code: int
) -> None:
    gpt2_config["training"] |= {"steps": 60, "checkpoint_every": 5}
    experiment = parse_experiment(gpt2_config, "test")
    whole = run_experiment(experiment, tmp_path / "whole").folder
    cut = RunFolder.of(experiment, tmp_path / "cut")
    child = run_experiment_in_child(experiment, tmp_path / "cut")
    wait_for_step(cut, 6)
    os.kill(child.pid or 0, number)
    child.join()
    assert child.exitcode == exit_code
    status = cut.read_status()
    assert status["state"] == "interrupted"
    assert Checkpoints(cut.checkpoints).steps()[-1] == status["step"]
    resumed: RunResult = run_experiment(experiment, tmp_path / "cut")
    assert resumed.state == "done"
    assert results(cut) == results(whole)
