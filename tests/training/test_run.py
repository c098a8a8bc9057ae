"""Complete runs of seconds: their files and how they end; learning-rate schedules in closed form."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from whyadam.configs.load import load_experiment, parse_experiment
from whyadam.configs.schema import Schedule, Training
from whyadam.errors import UserError
from whyadam.training.metrics import read_metrics
from whyadam.training.run import run_experiment
from whyadam.training.schedules import learning_rate_factor, number_of_steps


def rows_of(config: dict[str, Any], out: Path) -> list[dict[str, str]]:
    return read_metrics(run_experiment(parse_experiment(config, "test"), out).folder.metrics)


def test_a_run_folder_is_complete(gpt2_config: dict[str, Any], tmp_path: Path) -> None:
    experiment = parse_experiment(gpt2_config, "test")
    folder = run_experiment(experiment, tmp_path).folder
    assert folder.path.parent == tmp_path / "tiny-gpt2"
    assert folder.path.name.startswith("adam-lr0.001-seed0-")
    assert load_experiment(folder.config) == experiment
    status = json.loads((folder.path / "status.json").read_text())
    assert (status["state"], status["step"], status["device"]) == ("done", 8, "cpu")
    assert {"whyadam", "torch", "numpy"} <= set(status["versions"])
    assert status["best_eval_loss"] <= status["last_eval_loss"]
    assert status["seconds_training"] > 0
    assert [path.name for path in sorted(folder.checkpoints.iterdir())] == ["step_000008.pt"]


def test_rows_come_when_they_are_due(gpt2_config: dict[str, Any], tmp_path: Path) -> None:
    rows = rows_of(gpt2_config, tmp_path)
    assert [(row["split"], row["step"]) for row in rows] == [
        ("eval", "0"),
        ("train", "3"),
        ("eval", "4"),
        ("train", "6"),
        ("train", "8"),
        ("eval", "8"),
    ]
    assert rows[-1]["examples"] == "32"
    assert rows[-1]["tokens"] == str(32 * 16)
    assert float(rows[-1]["seconds"]) >= float(rows[1]["seconds"]) > 0


def test_a_training_row_is_the_mean_over_its_steps(gpt2_config: dict[str, Any], tmp_path: Path) -> None:
    every = deepcopy(gpt2_config)
    every["training"]["log_every"] = 1
    single = [float(row["loss"]) for row in rows_of(every, tmp_path) if row["split"] == "train"]
    means = [float(row["loss"]) for row in rows_of(gpt2_config, tmp_path) if row["split"] == "train"]
    assert means == pytest.approx([sum(single[:3]) / 3, sum(single[3:6]) / 3, sum(single[6:]) / 2], rel=1e-6)


def test_a_diverged_run_is_shorter_and_says_so(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    """Nothing is filled in for the steps that were not taken."""
    mlp_config["optimizer"]["lr"] = 1e30
    mlp_config["training"] |= {"steps": 30, "log_every": 1}
    result = run_experiment(parse_experiment(mlp_config, "test"), tmp_path)
    status = result.folder.read_status()
    steps = [int(row["step"]) for row in read_metrics(result.folder.metrics)]
    assert result.state == status["state"] == "diverged"
    assert max(steps) <= status["step"] < 30
    assert "NaN or infinite" in status["error"]
    assert run_experiment(parse_experiment(mlp_config, "test"), tmp_path).was_finished


def test_the_learning_rate_follows_the_schedule(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    mlp_config["schedule"] = {"name": "linear", "warmup_steps": 2}
    mlp_config["training"]["log_every"] = 1
    rates = [float(row["lr"]) for row in rows_of(mlp_config, tmp_path) if row["split"] == "train"]
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.075, 0.05, 0.025])


def test_a_full_batch_step_sees_the_whole_training_part(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    """And does not depend on how it is cut, nor on the seed of the data order."""
    losses = []
    for micro_batch_size in (500, 1700):
        config = deepcopy(mlp_config)
        config["training"] |= {"steps": 2, "batch_size": "full", "micro_batch_size": micro_batch_size, "log_every": 1}
        rows = [row for row in rows_of(config, tmp_path) if row["split"] == "train"]
        assert [float(row["epoch"]) for row in rows] == [1, 2]
        losses.append([float(row["loss"]) for row in rows])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_run_whose_data_is_missing_ends_in_one_line(gpt2_config: dict[str, Any], tmp_path: Path) -> None:
    gpt2_config["data"] = {"name": "text_file", "path": "no-such-file.txt", "block_size": 16, "tokenizer": "char"}
    with pytest.raises(UserError, match=r"no-such-file\.txt") as caught:
        run_experiment(parse_experiment(gpt2_config, "test"), tmp_path)
    assert "\n" not in str(caught.value)
    assert json.loads(next(tmp_path.rglob("status.json")).read_text())["state"] == "failed"


def test_bf16_trains_where_the_device_has_it(gpt2_config: dict[str, Any], tmp_path: Path) -> None:
    full = rows_of(gpt2_config, tmp_path)
    gpt2_config["training"]["precision"] = "bf16"
    half = rows_of(gpt2_config, tmp_path)
    assert float(half[-1]["loss"]) == pytest.approx(float(full[-1]["loss"]), rel=0.02)
    assert half[-1]["loss"] != full[-1]["loss"]


def test_a_users_own_optimizer_runs(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    mlp_config["optimizer"] = {"name": "torch.optim:RMSprop", "lr": 1e-3, "alpha": 0.9}
    rows = rows_of(mlp_config, tmp_path)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def factors(schedule: Schedule, steps: int) -> list[float]:
    return [learning_rate_factor(schedule, step, steps) for step in range(steps)]


def test_constant_is_one() -> None:
    assert factors(Schedule(), 3) == [1, 1, 1]


def test_warm_up_rises_in_equal_parts_and_its_last_step_is_full() -> None:
    assert factors(Schedule(warmup_steps=4), 6) == [0.25, 0.5, 0.75, 1, 1, 1]


def test_linear_falls_in_equal_parts_to_its_share() -> None:
    assert factors(Schedule(name="linear"), 4) == [1, 0.75, 0.5, 0.25]
    assert factors(Schedule(name="linear", final=0.5), 4) == [1, 0.875, 0.75, 0.625]


def test_cosine_is_a_half_wave_after_the_warm_up() -> None:
    expected = [0.5, 1, 1] + [(1 + math.cos(math.pi * part / 3)) / 2 for part in (1, 2)]
    assert factors(Schedule(name="cosine", warmup_steps=2), 5) == pytest.approx(expected)


def test_epochs_become_steps_without_the_incomplete_batch() -> None:
    assert number_of_steps(Training(epochs=3, batch_size=4), examples=11) == 6
    assert number_of_steps(Training(epochs=3, batch_size="full", micro_batch_size=4), examples=11) == 3
    assert number_of_steps(Training(steps=5), examples=11) == 5


@pytest.mark.parametrize("optimizer", [{"name": "acclip", "lr": 1.0}, {"name": "cclip", "lr": 0.1, "clip": 1e-3}])
def test_the_clip_fraction_of_a_row_is_the_mean_over_its_steps(
    gpt2_config: dict[str, Any], tmp_path: Path, optimizer: dict[str, Any]
) -> None:
    """Of all steps since the row before, not of the last one alone."""
    gpt2_config["optimizer"] = optimizer
    every = deepcopy(gpt2_config)
    every["training"]["log_every"] = 1
    single = [float(row["clip_fraction"]) for row in rows_of(every, tmp_path) if row["split"] == "train"]
    means = [float(row["clip_fraction"]) for row in rows_of(gpt2_config, tmp_path) if row["split"] == "train"]
    assert means == pytest.approx([sum(single[:3]) / 3, sum(single[3:6]) / 3, sum(single[6:]) / 2], rel=1e-6)
    assert max(means) < 1
    assert len(set(single)) == 8
