"""Files of a run that are cut, flipped or gone: it falls back as far as it must, says so, and ends the same."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from whyadam.errors import UserError
from whyadam.training.checkpoint import Checkpoints, load_checkpoint
from whyadam.training.run import run_experiment

pytestmark = pytest.mark.faults
SLOW = pytest.mark.slow


@pytest.fixture
def killed(victim: Any) -> Any:
    """A run that was killed after step 20; there are checkpoints of steps 8, 16 and 20."""

    def die_after(step: int) -> None:
        save = Checkpoints.save

        def save_and_die(checkpoints: Checkpoints, at: int, content: dict[str, Any]) -> None:
            save(checkpoints, at, content)
            if at == step:
                os.kill(os.getpid(), signal.SIGKILL)

        Checkpoints.save = save_and_die  # type: ignore[method-assign]

    child = victim.start(lambda: die_after(20))
    child.join()
    assert Checkpoints(victim.folder.checkpoints).steps() == [8, 16, 20]
    return victim


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if how == "cut" else b"")


@pytest.mark.parametrize(
    ("how", "steps"),
    [
        ("cut", [20]),
        pytest.param("empty", [20], marks=SLOW),
        pytest.param("missing", [20], marks=SLOW),
        pytest.param("cut", [16, 20], marks=SLOW),
        pytest.param("missing", [16, 20], marks=SLOW),
        pytest.param("cut", [8, 16, 20], marks=SLOW),
        pytest.param("missing", [8, 16, 20], marks=SLOW),
    ],
)
def test_damaged_checkpoints_are_passed_over(
    killed: Any, how: str, steps: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    for step in steps:
        damage(Checkpoints(killed.folder.checkpoints).path(step), how)
    killed.ends_like_undisturbed()
    complaints = [line for line in capsys.readouterr().err.splitlines() if "not a complete checkpoint" in line]
    # Nothing can be said of a file that is gone.
    assert len(complaints) == (0 if how == "missing" else len(steps))
    assert all(line.endswith("the beginning" if len(steps) == 3 else "the one before") for line in complaints)


def test_a_flipped_bit_is_found_or_changes_nothing(victim: Any) -> None:
    """300 bits at random places of a checkpoint; none may give other weights."""
    run_experiment(victim.experiment, victim.out)
    path = Checkpoints(victim.folder.checkpoints).path(24)
    whole = path.read_bytes()
    wanted = victim.wanted["checkpoints/step_000024.pt"]
    generator, found = random.Random(0), 0
    for _ in range(300):
        content = bytearray(whole)
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(content)
        try:
            loaded = load_checkpoint(path)
        except ValueError:
            found += 1
        else:
            assert loaded["step"] == wanted["step"]
            for name, tensor in loaded["model"].items():
                assert tensor.numpy().tobytes() == wanted["model"][name]
    print(f"{found} of 300 flipped bits were found, the others lay where nothing is read")
    assert found > 100


def test_a_checkpoint_of_another_model_is_refused_by_name(killed: Any) -> None:
    path = Checkpoints(killed.folder.checkpoints).path(20)
    torch.save(load_checkpoint(path) | {"model": {"weight": torch.zeros(3)}}, path)
    with pytest.raises(UserError, match=rf"{path.name}: is of another model or optimizer") as caught:
        run_experiment(killed.experiment, killed.out)
    assert "\n" not in str(caught.value)
    assert killed.folder.read_status()["state"] == "failed"


@pytest.mark.parametrize("keep", [0.62, *(pytest.param(keep, marks=SLOW) for keep in (0.0, 0.02, 0.3, 0.97, 0.999))])
def test_metrics_cut_anywhere(killed: Any, keep: float, capsys: pytest.CaptureFixture[str]) -> None:
    """In mid-line too; rows that a checkpoint had seen and that are gone are trained again, not left out."""
    content = killed.folder.metrics.read_bytes()
    killed.folder.metrics.write_bytes(content[: round(len(content) * keep)])
    killed.ends_like_undisturbed()
    assert "complete rows up to step" in capsys.readouterr().err


@SLOW
@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"no,such,table\n1,2,3\n", b"step\n" * 50])
def test_metrics_overwritten(killed: Any, content: bytes) -> None:
    killed.folder.metrics.write_bytes(content)
    killed.ends_like_undisturbed()


def test_noise_cut_in_mid_line_is_named(killed: Any) -> None:
    """It is replaced as a whole, so no kill can do that, and a measurement cannot be made again from nothing."""
    table = killed.folder.path / "noise.csv"
    table.write_bytes(table.read_bytes()[:-7])
    with pytest.raises(UserError, match=r"noise\.csv: a line is damaged"):
        run_experiment(killed.experiment, killed.out)


@SLOW
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b'{"state": 3}'])
def test_a_status_or_a_config_that_cannot_be_read_is_written_anew(killed: Any, content: bytes) -> None:
    (killed.folder.path / "status.json").write_bytes(content)
    killed.folder.config.write_bytes(content)
    killed.ends_like_undisturbed()
    assert json.loads((killed.folder.path / "status.json").read_text())["state"] == "done"
