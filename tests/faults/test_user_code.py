"""A user's own code that raises, exits or gives something else: one line with its file and line, exit code 1."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from whyadam import cli
from whyadam.configs.load import dump_experiment, parse_experiment
from whyadam.errors import UserError, describe_failure, user_code
from whyadam.training.checkpoint import Checkpoints
from whyadam.training.run_folder import RunFolder

pytestmark = pytest.mark.faults

OPTIMIZERS = """\
import sys
import torch

class Base(torch.optim.SGD):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)

class StepExits(Base):
    def step(self, closure=None):
        sys.exit(0)  # step exits

class StepRaises(Base):
    def step(self, closure=None):
        raise RuntimeError("step boom\\nsecond line \\x1b[2J")  # step raises

class Exits(Base):
    def __init__(self, params, lr=0.1):
        sys.exit(0)  # construction exits

class Raises(Base):
    def __init__(self, params, lr=0.1):
        raise KeyError("boom")  # construction raises

class Odd(Base):
    def step(self, closure=None):
        super().step()
        self.param_groups[0]["thing"] = object()

class Telemetry(Base):
    def telemetry(self):
        return None

def nothing(params, lr=0.1):
    return None

def inside_of_torch(params, lr=0.1):
    return torch.optim.SGD([], lr=lr)  # inside of torch
"""


@pytest.fixture
def train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, RunFolder]]:
    """Trains a quadratic with a user's own optimizer: exit code, standard error, run folder."""
    (tmp_path / "their_optimizers.py").write_text(OPTIMIZERS)
    (tmp_path / "broken_at_import.py").write_text("import sys\n\nsys.exit(3)  # import exits\n")
    monkeypatch.syspath_prepend(tmp_path)

    def run(name: str, *options: str) -> tuple[int, str, RunFolder]:
        config = {
            "name": "theirs",
            "model": {"name": "point"},
            "data": {"name": "quadratic", "blocks": [[1, 2]], "examples": 16},
            "task": {"name": "quadratic"},
            "optimizer": {"name": name, "lr": 0.1},
            "training": {"steps": 4, "batch_size": 4, "eval_every": 2, "checkpoint_every": 2},
        }
        experiment = parse_experiment(config, "test")
        (tmp_path / "config.yaml").write_text(dump_experiment(experiment))
        line = ["whyadam", "train", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "out"), *options]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), capsys.readouterr().err, RunFolder.of(experiment, tmp_path / "out")

    return run


def line_of(comment: str) -> int:
    return next(number for number, line in enumerate(OPTIMIZERS.splitlines(), 1) if line.endswith(f"# {comment}"))


@pytest.mark.parametrize(
    ("name", "comment", "words"),
    [
        ("StepExits", "step exits", "ends the process with exit code 0"),
        ("StepRaises", "step raises", "step boom second line"),
        ("Exits", "construction exits", "ends the process with exit code 0"),
        ("Raises", "construction raises", "boom"),
        ("inside_of_torch", "inside of torch", "empty parameter list"),
    ],
)
def test_one_line_says_where_in_their_code_it_was(
    train: Callable[..., tuple[int, str, RunFolder]], name: str, comment: str, words: str
) -> None:
    code, errors, folder = train(f"their_optimizers:{name}")
    *_, line = errors.splitlines()
    assert code == 1
    assert "Traceback" not in errors
    assert line.isprintable()
    assert f"their_optimizers.py:{line_of(comment)}: " in line
    assert words in line
    status = folder.read_status()
    assert status["state"] == "failed"
    assert words in status["error"]


def test_their_module_may_exit_at_its_import(train: Callable[..., tuple[int, str, RunFolder]]) -> None:
    code, errors, folder = train("broken_at_import:Optimizer")
    assert code == 1
    assert re.search(r"broken_at_import\.py:3: ends the process with exit code 3\n$", errors)
    assert folder.read_status()["state"] == "failed"


@pytest.mark.parametrize(("option", "is_shown"), [("-v", True), ("--verbose", True), (None, False)])
def test_the_traceback_comes_with_v(
    train: Callable[..., tuple[int, str, RunFolder]], option: str | None, is_shown: bool
) -> None:
    code, errors, _ = train("their_optimizers:StepRaises", *([option] if option else []))
    assert code == 1
    assert ("Traceback" in errors) == is_shown


def test_what_is_no_optimizer_is_refused(train: Callable[..., tuple[int, str, RunFolder]]) -> None:
    code, errors, folder = train("their_optimizers:nothing")
    assert code == 2
    assert "gave a NoneType, not a torch Optimizer" in errors
    assert folder.read_status()["state"] == "failed"


def test_a_state_that_no_checkpoint_can_hold_is_refused_at_the_first(
    train: Callable[..., tuple[int, str, RunFolder]],
) -> None:
    """Else it would be written, never be read again, and each attempt would begin from the beginning."""
    code, errors, folder = train("their_optimizers:Odd")
    assert code == 2
    assert "a checkpoint holds tensors and plain values only, not the object" in errors
    assert Checkpoints(folder.checkpoints).steps() == []


def test_a_method_that_happens_to_have_a_name_of_ours_is_left_alone(
    train: Callable[..., tuple[int, str, RunFolder]],
) -> None:
    assert train("their_optimizers:Telemetry")[0] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-s", "training.device=cuda:99999999999"), "training.device: cuda:99999999999 is not there"),
        (("-s", "data.examples=abc"), "data.examples: should be a valid integer"),
    ],
)
def test_their_mistakes_stay_mistakes(
    train: Callable[..., tuple[int, str, RunFolder]], options: tuple[str, ...], words: str
) -> None:
    code, errors, _ = train("sgd", *options)
    assert code == 2
    assert words in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("variable", ["WHYADAM_CACHE", "WHYADAM_DATA"])
def test_the_home_folder_of_nobody_is_one_line(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from whyadam.cache import cache_folder, candidates
    from whyadam.errors import UserError

    monkeypatch.setenv(variable, "~nosuchuser/x")
    with pytest.raises(UserError, match="~nosuchuser/x: there is no such user"):
        cache_folder() if variable == "WHYADAM_CACHE" else candidates("text.txt")


def test_a_compiled_library_is_not_the_users_code() -> None:
    """Cython gives its frames a relative file: a file that pyarrow cannot read was blamed on ``pyarrow/error.pxi``."""
    library: dict[str, Any] = {"__name__": "pyarrow.lib"}
    exec(compile("def read():\n    raise KeyError('half a line')", "pyarrow/error.pxi", "exec"), library)
    ours: dict[str, Any] = {"__name__": "whyadam.data.made_up", "read": library["read"], "UserError": UserError}
    load = "def load():\n try:\n  read()\n except KeyError as error:\n  raise UserError('no JSON') from error"
    exec(compile(load, "/somewhere/made_up.py", "exec"), ours)
    with pytest.raises(UserError) as caught, user_code():
        ours["load"]()
    assert describe_failure(caught.value) == ("no JSON", 2)
