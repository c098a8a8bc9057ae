"""Noise measured by a run: it changes nothing, survives a kill, and can be had afterwards as well."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from whyadam.configs.load import load_experiment, parse_experiment
from whyadam.errors import UserError
from whyadam.noise.record import NoiseRecord
from whyadam.training.checkpoint import Checkpoints
from whyadam.training.metrics import read_metrics
from whyadam.training.noise_meter import measure_run
from whyadam.training.run import run_experiment
from whyadam.training.run_folder import RunBusyError, RunFolder

NOISE = {"every": 4, "batches": 8, "reference": 3, "coordinates": 20}


@pytest.fixture
def resnet_config() -> dict[str, Any]:
    """BatchNorm: running statistics that a measurement could disturb."""
    return {
        "name": "tiny-resnet",
        "model": {"name": "resnet18", "layers": [1, 1, 1, 1]},
        "data": {"name": "mnist5k"},
        "task": {"name": "classification"},
        "optimizer": {"name": "adam", "lr": 1e-3},
        "training": {"steps": 5, "batch_size": 4, "eval_every": 4, "eval_examples": 8, "log_every": 2},
    }


@pytest.fixture
def without_tail_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly all of a measurement's time in a tiny run; they see nothing but the samples."""
    monkeypatch.setattr("whyadam.noise.measure.tail_rows", lambda *_, **__: {})


def run(config: dict[str, Any], out: Path) -> RunFolder:
    return run_experiment(parse_experiment(config, "test"), out).folder


def training_results(folder: RunFolder) -> tuple[list[dict[str, str]], bytes]:
    """All rows without their wall-clock time, and the bytes of the last checkpoint."""
    rows = [row | {"seconds": ""} for row in read_metrics(folder.metrics)]
    checkpoints = Checkpoints(folder.checkpoints)
    return rows, checkpoints.path(checkpoints.steps()[-1]).read_bytes()


def noise_results(folder: RunFolder) -> dict[str, bytes]:
    """The bytes of noise.csv and of all raw samples."""
    return {path.name: path.read_bytes() for path in [folder.path / "noise.csv", *(folder.path / "noise").iterdir()]}


@pytest.mark.usefixtures("without_tail_statistics")
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("config", ["gpt2_config", "resnet_config"])
def test_measuring_changes_no_bit_of_the_training(
    config: str, mode: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Dropout in one model, BatchNorm in the other: weights, moments, statistics and every row of metrics.csv."""
    values: dict[str, Any] = request.getfixturevalue(config)
    without = run(values, tmp_path)
    measured = run(values | {"noise": NOISE | {"mode": mode, "examples": 8}}, tmp_path)
    assert NoiseRecord(measured.path).steps()[:2] == [0, 4]
    assert training_results(measured) == training_results(without)


def test_the_time_of_measuring_is_not_training_time(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    folder = run(mlp_config | {"noise": NOISE | {"every": 1}}, tmp_path)
    status = folder.read_status()
    assert status["seconds_measuring"] > 3 * status["seconds_training"]


@pytest.mark.usefixtures("without_tail_statistics")
def test_killed_and_started_again_gives_the_same_bytes(gpt2_config: dict[str, Any], tmp_path: Path) -> None:
    """Each measurement begins with a checkpoint, so what was measured is never measured again."""
    gpt2_config["training"] |= {"steps": 12, "checkpoint_every": 5}
    experiment = parse_experiment(gpt2_config | {"noise": NOISE | {"every": 1}}, "test")
    whole = run_experiment(experiment, tmp_path / "whole").folder

    cut = RunFolder.of(experiment, tmp_path / "cut")
    child = multiprocessing.get_context("fork").Process(target=run_experiment, args=(experiment, tmp_path / "cut"))
    child.start()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and max(NoiseRecord(cut.path).steps(), default=0) < 7:
        time.sleep(0.005)
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    assert cut.read_status()["state"] == "running"
    assert Checkpoints(cut.checkpoints).steps()[-1] >= 7
    assert run_experiment(experiment, tmp_path / "cut").state == "done"
    assert noise_results(cut) == noise_results(whole)


def test_rows_of_every_layer_and_of_the_whole_model_are_written(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    rows = NoiseRecord(run(mlp_config | {"noise": NOISE | {"examples": 9}}, tmp_path).path).rows()
    assert {row["step"] for row in rows} == {"0", "4"}
    assert {row["scope"] for row in rows} == {"1.weight", "1.bias", "3.weight", "3.bias", "all"}
    assert {(row["samples"], row["batch_size"], row["mode"]) for row in rows} == {
        ("8", "16", "train"),
        ("9", "1", "train"),
    }
    keys = [(row["step"], row["scope"], row["statistic"], row["batch_size"]) for row in rows]
    assert len(set(keys)) == len(keys)
    wanted = {
        "variance",
        "noise_scale",
        "reference_norm",
        "norms",
        "coordinates",
        "across_iterations/norm/quantile_0.5",
    }
    for scope in ("1.weight", "all"):
        assert wanted <= {row["statistic"] for row in rows if row["scope"] == scope}


@pytest.mark.usefixtures("without_tail_statistics")
def test_measuring_afterwards_gives_what_the_run_would_have_written(
    gpt2_config: dict[str, Any], tmp_path: Path
) -> None:
    """At the initialisation and at a checkpoint, dropout on."""
    gpt2_config["training"] |= {"keep_checkpoints": [4]}
    during = run(gpt2_config | {"noise": NOISE}, tmp_path)
    plain = run(gpt2_config, tmp_path)
    experiment = load_experiment(during.config)
    assert [measured.step for measured in measure_run(experiment, plain, None)] == [0, 4, 8]
    assert noise_results(plain) == noise_results(during)
    assert load_experiment(plain.config).noise is None


def test_a_config_is_measured_at_its_initialisation(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    experiment = parse_experiment(mlp_config | {"noise": NOISE | {"at": [2]}}, "test")
    folder = RunFolder.of(experiment, tmp_path)
    assert [measured.step for measured in measure_run(experiment, folder, None)] == [0]
    before = noise_results(folder)
    assert load_experiment(folder.config) == experiment
    run_experiment(experiment, tmp_path)
    assert NoiseRecord(folder.path).steps() == [0, 2, 4]
    assert noise_results(folder)["step_000000.npz"] == before["step_000000.npz"]


def test_a_step_without_a_checkpoint_is_said_with_those_there_are(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    folder = run(mlp_config, tmp_path)
    with pytest.raises(UserError, match=r"no checkpoint of step 5; there are 0, 6"):
        next(measure_run(load_experiment(folder.config), folder, [0, 5]))


def test_a_run_at_work_is_not_measured(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    folder = run(mlp_config, tmp_path)
    with folder.lock(), pytest.raises(RunBusyError):
        next(measure_run(load_experiment(folder.config), folder, [0]))


def test_a_batch_size_that_the_data_cannot_fill(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"noise\.batch_size: 5000 examples do not fit into the 4000"):
        run(mlp_config | {"noise": {"batch_size": 5000}}, tmp_path)


def test_a_full_batch_run_without_a_noise_section_must_be_told_the_batch_size(
    mlp_config: dict[str, Any], tmp_path: Path
) -> None:
    mlp_config["training"] |= {"batch_size": "full", "micro_batch_size": 1000}
    experiment = parse_experiment(mlp_config, "test")
    with pytest.raises(UserError, match=r"noise\.batch_size: missing"):
        next(measure_run(experiment, RunFolder.of(experiment, tmp_path), None))


def test_gradients_that_overflow_end_a_run_as_diverged(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    """Training ends by itself at such a step; a measurement may come first."""
    mlp_config["optimizer"]["lr"] = 1e30
    mlp_config["training"] |= {"steps": 30, "eval_every": 30}
    result = run_experiment(parse_experiment(mlp_config | {"noise": NOISE | {"every": 1}}, "test"), tmp_path)
    assert result.state == "diverged"
    assert "NaN or infinite" in result.folder.read_status()["error"]
    assert NoiseRecord(result.folder.path).steps() == [0]
