"""Curvature measured by a run: it changes nothing, survives a kill, and can be had afterwards as well."""

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
from whyadam.hessian.record import HessianRecord
from whyadam.training.checkpoint import Checkpoints
from whyadam.training.hessian_meter import measure_run
from whyadam.training.metrics import read_metrics
from whyadam.training.run import run_experiment
from whyadam.training.run_folder import RunFolder

HESSIAN = {"at": [0, "50%", "100%"], "batch_size": 2, "tolerance": None, "steps": 2, "probes": 2}


@pytest.fixture
def resnet_config() -> dict[str, Any]:
    """BatchNorm: running statistics that a measurement could disturb."""
    return {
        "name": "tiny-resnet",
        "model": {"name": "resnet18", "layers": [1, 1, 1, 1]},
        "data": {"name": "mnist5k"},
        "task": {"name": "classification"},
        "optimizer": {"name": "adam", "lr": 1e-3},
        "training": {"steps": 3, "batch_size": 4, "eval_every": 2, "eval_examples": 8, "log_every": 2},
    }


def run(config: dict[str, Any], out: Path) -> RunFolder:
    return run_experiment(parse_experiment(config, "test"), out).folder


def training_results(folder: RunFolder) -> tuple[list[dict[str, str]], bytes]:
    """All rows without their wall-clock time, and the bytes of the last checkpoint."""
    rows = [row | {"seconds": ""} for row in read_metrics(folder.metrics)]
    checkpoints = Checkpoints(folder.checkpoints)
    return rows, checkpoints.path(checkpoints.steps()[-1]).read_bytes()


def hessian_results(folder: RunFolder) -> dict[str, bytes]:
    """The bytes of everything in hessian/."""
    record = HessianRecord(folder.path)
    return {
        str(path.relative_to(folder.path)): path.read_bytes() for path in record.folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("config", "blocks"), [("gpt2_config", "*h.1*weight*"), ("resnet_config", ["*layer1*", "*layer4*bn1.weight"])]
)
def test_measuring_changes_no_bit_of_the_training(
    config: str, blocks: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Dropout in one model, BatchNorm in the other: weights, moments, statistics and every row of metrics.csv."""
    values: dict[str, Any] = request.getfixturevalue(config)
    without = run(values, tmp_path)
    measured = run(values | {"hessian": HESSIAN | {"adam": True, "blocks": blocks}}, tmp_path)
    last = values["training"]["steps"]
    assert HessianRecord(measured.path).steps() == [0, round(last / 2), last]
    assert training_results(measured) == training_results(without)


def test_the_preconditioner_is_that_of_the_optimizer_once_it_has_one(
    gpt2_config: dict[str, Any], mlp_config: dict[str, Any], tmp_path: Path
) -> None:
    for config, sources in ((gpt2_config, ["gradient", "moments"]), (mlp_config, ["gradient", "gradient"])):
        hessian = HESSIAN | {"at": [0, "100%"], "blocks": "*bias"}
        record = HessianRecord(run(config | {"hessian": hessian}, tmp_path).path)
        assert [record.how(step)["adam_source"] for step in record.steps()] == sources


def test_the_time_of_measuring_is_not_training_time(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    status = run(mlp_config | {"hessian": HESSIAN | {"every": 1}}, tmp_path).read_status()
    assert status["seconds_measuring"] > 3 * status["seconds_training"]


def test_killed_in_a_measurement_and_started_again_gives_the_same_bytes(
    gpt2_config: dict[str, Any], tmp_path: Path
) -> None:
    """The kill comes in the midst of one, and of its blocks; its step has a checkpoint, although none is due."""
    gpt2_config["training"] |= {"steps": 5, "checkpoint_every": 3}
    hessian = HESSIAN | {"at": [0, 4], "adam": True, "blocks": "*h.*attn*weight*"}
    experiment = parse_experiment(gpt2_config | {"hessian": hessian}, "test")
    whole = run_experiment(experiment, tmp_path / "whole").folder

    cut = RunFolder.of(experiment, tmp_path / "cut")
    child = multiprocessing.get_context("fork").Process(target=run_experiment, args=(experiment, tmp_path / "cut"))
    child.start()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(cut.path.glob("hessian/unfinished/step_000004-*/hessian/*"))) < 5:
        time.sleep(0.002)
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    assert HessianRecord(cut.path).steps() == [0]
    assert Checkpoints(cut.checkpoints).steps() == [3, 4]
    assert run_experiment(experiment, tmp_path / "cut").state == "done"
    assert hessian_results(cut) == hessian_results(whole)


def test_measuring_afterwards_gives_what_the_run_would_have_written(
    gpt2_config: dict[str, Any], tmp_path: Path
) -> None:
    gpt2_config["training"] |= {"keep_checkpoints": [4]}
    during = run(gpt2_config | {"hessian": HESSIAN | {"adam": True, "blocks": "*h.1*weight*"}}, tmp_path)
    plain = run(gpt2_config, tmp_path)
    experiment = load_experiment(during.config)
    assert list(measure_run(experiment, plain, ["100%", 0, "50%"])) == [0, 4, 8]
    assert hessian_results(plain) == hessian_results(during)
    assert load_experiment(plain.config).hessian is None


def test_a_moment_without_a_checkpoint_is_said_with_those_there_are(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    folder = run(mlp_config, tmp_path)
    with pytest.raises(UserError, match=r"no checkpoint of step 3; there are 0, 6"):
        next(measure_run(load_experiment(folder.config), folder, [0, "50%"]))


def test_weights_that_overflow_end_a_run_as_diverged(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    """Training ends by itself at such a step; a measurement may come first."""
    mlp_config["optimizer"]["lr"] = 1e30
    mlp_config["training"] |= {"steps": 30, "eval_every": 30}
    hessian = HESSIAN | {"every": 1, "blocks": "*bias"}
    result = run_experiment(parse_experiment(mlp_config | {"hessian": hessian}, "test"), tmp_path)
    assert result.state == "diverged"
    assert "there is no curvature" in result.folder.read_status()["error"]
    assert HessianRecord(result.folder.path).steps() == [0]
