"""A run folder of version 0.1.0, interrupted at step 201 of 400: what that version wrote is read by this one."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

OLD = Path(__file__).with_name("old_run")
NAME = "adam-lr0.01-seed0-bc0370e7"


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The old run, gone on with to its end by the command that made it."""
    out = tmp_path_factory.mktemp("old") / "runs"
    folder = out / "old-run" / NAME
    shutil.copytree(OLD / NAME, folder)
    whyadam("train", str(folder / "config.yaml"), "--out", str(out))
    return folder


def whyadam(*arguments: str) -> str:
    command = [sys.executable, "-m", "whyadam.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def test_it_is_resumed_in_its_own_folder(resumed: Path) -> None:
    """Another name of the folder would begin the run anew, and leave the old one unfinished for ever."""
    assert [path.name for path in resumed.parent.iterdir()] == [NAME]
    assert '"state": "done"' in (resumed / "status.json").read_text()


def test_it_ends_in_the_rows_that_the_old_version_wrote(resumed: Path) -> None:
    expected = rows(OLD / "finished_metrics.csv")
    assert [row["step"] for row in expected][-1] == "400"
    found = [{name: row[name] for name in expected[0]} for row in rows(resumed / "metrics.csv")]
    if sys.platform == "linux":  # the products of another system's torch may differ in the last digit
        assert found == expected
    else:
        assert [row["step"] for row in found] == [row["step"] for row in expected]


def test_its_measurements_are_kept_and_the_missing_ones_are_made(resumed: Path) -> None:
    assert (resumed / "noise" / "step_000000.npz").read_bytes() == (
        OLD / NAME / "noise" / "step_000000.npz"
    ).read_bytes()
    assert {row["step"] for row in rows(resumed / "noise.csv")} == {"0", "300"}
    assert (resumed / "hessian" / "step_000400" / "blocks.csv").exists()


@pytest.mark.slow
def test_it_is_drawn_and_listed(resumed: Path, tmp_path: Path) -> None:
    runs = str(resumed.parents[1])
    for kind in ("loss", "noise", "js"):
        whyadam("figure", kind, runs, "--out", str(tmp_path / kind))
    assert {path.suffix for path in tmp_path.iterdir()} >= {".png", ".svg"}
    assert "adam" in whyadam("best", runs)
    whyadam("report", runs, "--out", str(tmp_path / "report.html"))
    assert "old-run" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_it_is_drawn_as_the_old_version_left_it(tmp_path: Path) -> None:
    """Also without going on: its noise.csv has the old columns alone."""
    shutil.copytree(OLD / NAME, tmp_path / "old-run" / NAME)
    for kind in ("loss", "noise"):
        whyadam("figure", kind, str(tmp_path / "old-run"), "--out", str(tmp_path / kind))
