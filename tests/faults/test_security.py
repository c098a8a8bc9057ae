"""Nothing that is read can run code, and nothing that is named can write outside the output folder."""

from __future__ import annotations

import ast
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whyadam
import yaml
from whyadam.configs.load import ConfigError, dump_experiment, parse_experiment
from whyadam.errors import UserError
from whyadam.noise.record import NoiseRecord
from whyadam.training.checkpoint import Checkpoints
from whyadam.training.run import run_experiment
from whyadam.training.run_folder import RunFolder

pytestmark = pytest.mark.faults

ROOT = Path(whyadam.__file__).parent
ROOMS = ("cli", "studies", "figures", "training", "configs", "noise", "hessian", "synthetic", "tasks", "models")
SOURCES = [path for room in (*ROOMS, "optimizers", "data", "scripts") for path in (ROOT / room).rglob("*.py")]


class TouchesAFile:
    """What a pickle does that was made to do harm."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def test_a_run_refuses_a_checkpoint_that_would_run_a_command(
    victim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And begins anew, which it says."""
    monkeypatch.chdir(tmp_path)
    victim.folder.checkpoints.mkdir(parents=True)
    torch.save({"step": 8, "model": TouchesAFile()}, Checkpoints(victim.folder.checkpoints).path(8))
    Checkpoints(victim.folder.checkpoints).path(16).write_bytes(pickle.dumps({"step": 16, "model": TouchesAFile()}))
    victim.ends_like_undisturbed()
    assert capsys.readouterr().err.count("not a complete checkpoint") == 2
    assert not (tmp_path / "executed").exists()


def test_a_sample_of_noise_that_would_run_a_command_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    array, buffer = np.empty(1, dtype=object), io.BytesIO()
    array[0] = TouchesAFile()
    np.save(buffer, array, allow_pickle=True)
    (tmp_path / "noise").mkdir()
    with zipfile.ZipFile(tmp_path / "noise" / "step_000000.npz", "w") as archive:
        archive.writestr("scopes.npy", buffer.getvalue())
    with pytest.raises(UserError, match=r"step_000000\.npz: cannot be read"):
        NoiseRecord(tmp_path).samples(0)
    assert not (tmp_path / "executed").exists()


def calls(source: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The dotted name of every call in a source, with its keyword arguments as text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg or "**": ast.unparse(word.value) for word in node.keywords}


def danger(name: str, keywords: dict[str, str]) -> str | None:
    """Why a call may run code out of what it reads, or None."""
    last = name.rpartition(".")[2]
    if name in ("eval", "exec", "compile", "os.system", "os.popen"):
        return "runs text"
    if name.partition(".")[0] in ("pickle", "dill", "joblib", "cloudpickle", "marshal", "shelve"):
        return "unpickles"
    if name == "torch.load" and keywords.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    if name in ("yaml.load", "yaml.load_all") and keywords.get("Loader") != "_StrictLoader":
        return "yaml.load with another loader"
    if last in ("unsafe_load", "full_load", "UnsafeLoader", "FullLoader"):
        return "unsafe YAML"
    if keywords.get("allow_pickle", "False") != "False" or keywords.get("shell", "False") != "False":
        return "allow_pickle or shell"
    if "trust_remote_code" in keywords:
        return "code of a hub"
    return None


def test_no_source_has_a_call_that_may_run_what_it_reads() -> None:
    assert len(SOURCES) > 120
    found = {
        f"{path.relative_to(ROOT)}: {name}: {reason}"
        for path in SOURCES
        for name, keywords in calls(path.read_text(encoding="utf-8"))
        if (reason := danger(name, keywords))
    }
    assert found == set()


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.full_load(text)",
        "pickle.load(file)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_what_the_test_before_would_catch(source: str) -> None:
    ((name, keywords),) = calls(source)
    assert danger(name, keywords)


NAMES = [
    "../up",
    "..",
    ".",
    "/etc",
    "a/b",
    "a\\b",
    "",
    " ",
    "-",
    ".hidden",
    "a" * 101,
    "a\nb",
    "a\0b",
    "${HOME}",
    "~",
    "é",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_cannot_be_named_out_of_its_folder(name: str, mlp_config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^test: name: "):
        parse_experiment(mlp_config | {"name": name}, "test")


@pytest.mark.parametrize("name", ["..:a", "a/../../b:c", "/tmp/x:y", "a" * 300 + ":b"])
def test_an_optimizer_cannot_be_named_out_of_the_run_folder(
    name: str, mlp_config: dict[str, Any], tmp_path: Path
) -> None:
    """Its name is a part of the folder's."""
    experiment = parse_experiment(mlp_config | {"optimizer": {"name": name, "lr": 0.1}}, "test")
    path = RunFolder.of(experiment, tmp_path).path
    assert path.resolve().parent == tmp_path / "tiny"
    with pytest.raises(UserError):
        run_experiment(experiment, tmp_path)


def test_a_users_own_class_is_shown_in_the_resolved_config_and_not_imported_before(
    mlp_config: dict[str, Any], tmp_path: Path
) -> None:
    """Checking a config of somebody else's must not run what it names."""
    (tmp_path / "theirs.py").write_text("raise SystemExit('imported')\n")
    config = mlp_config | {"model": {"name": "theirs:Model", "width": 3}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert "name: 'theirs:Model'" in dump_experiment(parse_experiment(config, "test")).replace('"', "'")
    command = [sys.executable, "-m", "whyadam.cli", "validate", "config.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_escape_sequences_of_a_config_do_not_reach_the_terminal(mlp_config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_experiment(mlp_config | {"\x1b[2J\x1b]0;title\x07": 1}, "test")
    assert str(caught.value).isprintable()
