"""`whyadam noise` and `whyadam figure noise` as a shell sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

SMALL = ("-s", "noise.batches=8", "-s", "noise.reference=3", "-s", "noise.coordinates=20")


def whyadam(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "whyadam.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture
def config_file(tmp_path: Path, mlp_config: dict[str, Any]) -> Path:
    mlp_config["model"]["hidden"] = []
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(mlp_config))
    return path


def test_a_run_is_measured_and_drawn(config_file: Path, tmp_path: Path) -> None:
    trained = whyadam("train", config_file, cwd=tmp_path)
    run = Path(trained.stdout.partition(":")[0])
    measured = whyadam("noise", run, "--at", "0,6", *SMALL, cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    lines = measured.stdout.splitlines()
    assert [line.partition(",")[0] for line in lines[:2]] == ["step 0", "step 6"]
    assert "noise scale" in lines[0]
    assert lines[2] == str(run / "noise.csv")
    drawn = whyadam("figure", "noise", run, "--out", "pictures/noise", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "pictures" / "noise-histogram.png").exists()


def test_a_config_is_measured_where_its_run_would_be(config_file: Path, tmp_path: Path) -> None:
    measured = whyadam("noise", config_file, *SMALL, "-s", "noise.examples=8", "--out", "elsewhere", cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    assert [line.split(":")[0] for line in measured.stdout.splitlines()[:2]] == [
        "step 0, batches of 16",
        "step 0, batches of 1",
    ]
    (table,) = (tmp_path / "elsewhere").rglob("noise.csv")
    assert (table.parent / "noise" / "step_000000.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--at", "first"], "--at first: should be all, or steps such as 0,100,200"),
        (["--at", "3"], "no checkpoint of step 3; there are 0"),
        (["-s", "noise.batchs=9"], "noise.batchs: unknown key; did you mean batches?"),
        (["-s", "noise.batch_size=5000"], "noise.batch_size: 5000 examples do not fit"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    config_file: Path, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    answer = whyadam("noise", config_file, *arguments, cwd=tmp_path)
    assert answer.returncode == 2
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    assert expected in answer.stderr


def test_of_a_run_only_the_noise_can_be_changed(config_file: Path, tmp_path: Path) -> None:
    """A change of the model or the data would measure something that the run never was."""
    folder = tmp_path / "run"
    folder.mkdir()
    config_file.rename(folder / "config.yaml")
    answer = whyadam("noise", folder, "-s", "data.evaluation_fraction=0.5", cwd=tmp_path)
    assert answer.returncode == 2
    assert "only noise.* and training.device can be changed" in answer.stderr
