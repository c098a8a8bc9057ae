"""`whyadam hessian` and its figures as a shell sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

SMALL = ("-s", "hessian.tolerance=null", "-s", "hessian.steps=2", "-s", "hessian.probes=2", "--blocks", "*bias")


def whyadam(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "whyadam.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture
def config_file(tmp_path: Path, mlp_config: dict[str, Any]) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(mlp_config))
    return path


def test_a_run_is_measured_and_drawn(config_file: Path, tmp_path: Path) -> None:
    trained = whyadam("train", config_file, cwd=tmp_path)
    run = Path(trained.stdout.partition(":")[0])
    measured = whyadam("hessian", run, "--at", "0,100%", "--full", *SMALL, cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    lines = measured.stdout.splitlines()
    assert lines[1::2] == [str(run / "hessian" / name) for name in ("step_000000", "step_000006")]
    assert lines[0].startswith("step 0, 2 blocks and the full Hessian: JS0 ")
    assert lines[0].count("noise floor") == 2
    assert "(sigma 0.00316228)" in lines[0]
    assert "(sigma 1%)" in lines[0]
    for picture in ("spectra", "blocks", "js"):
        drawn = whyadam("figure", picture, run, "--out", f"pictures/{picture}", cwd=tmp_path)
        assert drawn.returncode == 0, drawn.stderr
        assert (tmp_path / "pictures" / f"{picture}.png").exists()


def test_a_config_is_measured_where_its_run_would_be(config_file: Path, tmp_path: Path) -> None:
    arguments = ("hessian", config_file, *SMALL, "--processes", "2", "--out", "elsewhere")
    measured = whyadam(*arguments, cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    (table,) = (tmp_path / "elsewhere").rglob("nodes.csv")
    assert table.parent.name == "step_000000"
    assert whyadam(*arguments, cwd=tmp_path).stdout == measured.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--at", "last"], "--at last: should be all, or moments such as 0,100 or 0,50%,100%"),
        (["--at", "100%"], "no checkpoint of step 6; there are 0"),
        (["-s", "hessian.probe=9"], "hessian.probe: unknown key; did you mean probes?"),
        (["--blocks", "*.wieght"], "hessian.blocks: '*.wieght' fits no parameter; did you mean"),
        (["--processes", "0"], "hessian.processes: should be greater than or equal to 1"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    config_file: Path, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    answer = whyadam("hessian", config_file, *arguments, cwd=tmp_path)
    assert answer.returncode == 2
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    assert expected in answer.stderr


def test_of_a_run_only_the_curvature_can_be_changed(config_file: Path, tmp_path: Path) -> None:
    """A change of the model or the data would measure something that the run never was."""
    folder = tmp_path / "run"
    folder.mkdir()
    config_file.rename(folder / "config.yaml")
    answer = whyadam("hessian", folder, "-s", "noise.batches=9", cwd=tmp_path)
    assert answer.returncode == 2
    assert "only hessian.* and training.device can be changed" in answer.stderr
