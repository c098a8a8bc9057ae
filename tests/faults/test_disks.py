"""A disk that is full or cannot be written to: one line, an exit code, and nothing that claims to be done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from whyadam.configs.load import dump_experiment

pytestmark = pytest.mark.faults

PRIVATE_MOUNTS = ("unshare", "--mount", "--map-root-user")


def run_script(script: str, *arguments: str | Path) -> str:
    """The output of a shell script whose mounts nobody else sees; the test is skipped where that is not permitted."""
    try:
        subprocess.run([*PRIVATE_MOUNTS, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no private mounts here")
    command = [*PRIVATE_MOUNTS, "sh", "-c", script, "sh", sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def config_file(victim: Any, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(dump_experiment(victim.experiment))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [4, 60, 90])
def test_a_full_disk(victim: Any, config_file: Path, tmp_path: Path, kilobytes: int) -> None:
    """When it has room again, the run goes on and ends in the bytes of one that always had room."""
    disk = tmp_path / "out"
    disk.mkdir()
    script = f"""
        mount -t tmpfs -o size={kilobytes}k none $3
        $1 -m whyadam.cli train $2 --out $3; echo exit code $?
        grep -h '"state"' $3/*/*/status.json
        mount -o remount,size=50m $3
        $1 -m whyadam.cli train $2 --out $3; echo exit code $?
        cp -r $3 $3-kept
    """
    lines = run_script(script, config_file, disk).splitlines()
    assert [line for line in lines if line.startswith("exit code")] == ["exit code 1", "exit code 0"], lines
    assert sum("No space left on device" in line for line in lines) == 1, lines
    assert not any('"done"' in line for line in lines), lines
    disk.rmdir()
    Path(f"{disk}-kept").rename(disk)
    victim.ends_like_undisturbed()


def test_an_output_folder_that_cannot_be_written_to(config_file: Path, tmp_path: Path) -> None:
    disk = tmp_path / "out"
    disk.mkdir()
    script = """
        mount -t tmpfs -o ro none $3
        $1 -m whyadam.cli train $2 --out $3; echo exit code $?
    """
    lines = run_script(script, config_file, disk).splitlines()
    assert "exit code 1" in lines
    assert sum("Read-only file system" in line and str(disk) in line for line in lines) == 1, lines
    assert len(lines) == 2, lines


@pytest.mark.slow
def test_an_output_folder_that_is_a_file(config_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "whyadam.cli", "train", str(config_file), "--out", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path / "file") in done.stderr


@pytest.mark.slow
def test_a_config_that_cannot_be_opened(tmp_path: Path) -> None:
    """A folder in place of a file."""
    command = [sys.executable, "-m", "whyadam.cli", "train", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
