"""Checkpoints: whole or not there, never executed, no more kept than asked for."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from whyadam.training.checkpoint import Checkpoints, load_checkpoint


def content(step: int) -> dict[str, object]:
    counts = {"step": step, "examples": 0, "tokens": 0, "losses": []}
    return counts | {"model": {"weight": torch.arange(5.0) + step}, "optimizer": {}}


def test_the_last_two_and_those_asked_for_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=[0, 30])
    for step in (0, 10, 20, 30, 40, 50):
        checkpoints.save(step, content(step))
    assert checkpoints.steps() == [0, 30, 40, 50]


def test_a_checkpoint_reads_back(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(7, content(7))
    loaded = load_checkpoint(tmp_path / "step_000007.pt")
    assert loaded["step"] == 7
    assert torch.equal(loaded["model"]["weight"], torch.arange(5.0) + 7)


def test_an_unfinished_file_is_no_checkpoint(tmp_path: Path) -> None:
    """Killed while writing: only the temporary name exists."""
    (tmp_path / "unfinished.tmp").write_bytes(b"half")
    assert Checkpoints(tmp_path).load_latest(torch.device("cpu")) == (None, [])


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_damage_is_noticed_and_the_one_before_is_taken(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, content(1))
    checkpoints.save(2, content(2))
    data = bytearray(checkpoints.path(2).read_bytes())
    if damage == "flipped":
        at = bytes(data).index((torch.arange(5.0) + 2).numpy().tobytes())
        data[at] ^= 1
    checkpoints.path(2).write_bytes({"cut": data[: len(data) // 2], "flipped": data, "empty": b""}[damage])
    loaded, complaints = checkpoints.load_latest(torch.device("cpu"))
    assert loaded is not None
    assert loaded["step"] == 1
    assert len(complaints) == 1
    assert "step_000002.pt" in complaints[0]


class RunsACommand:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def test_a_checkpoint_that_would_run_a_command_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"step": 1, "model": RunsACommand()}, tmp_path / "step_000001.pt")
    (tmp_path / "step_000002.pt").write_bytes(pickle.dumps({"step": 2, "model": RunsACommand()}))
    for name in ("step_000001.pt", "step_000002.pt"):
        with pytest.raises(ValueError, match=name):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "executed").exists()
