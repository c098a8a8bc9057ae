"""Every reader of a run folder takes a damaged or hostile file in one line, and nothing damaged is ``done``."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from whyadam import __version__, cli
from whyadam.configs.load import dump_experiment, parse_experiment
from whyadam.errors import UserError
from whyadam.training.checkpoint import Checkpoints, load_checkpoint
from whyadam.training.metrics import MetricsFile, MetricsRow, read_metrics, rows_until
from whyadam.training.run import run_experiment
from whyadam.training.run_folder import RunFolder

pytestmark = pytest.mark.faults

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs ``whyadam`` in this process: its exit code and what it wrote on standard error."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["whyadam", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), capsys.readouterr().err

    return run


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {}


@pytest.fixture
def finished(victim: Any, _finished: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run in the victim's own folder; trained once, copied for each test."""
    if not _finished:
        _finished["out"] = tmp_path_factory.mktemp("finished")
        run_experiment(victim.experiment, _finished["out"])
    shutil.copytree(_finished["out"], victim.out)
    return victim


def edit_line(path: Path, number: int, old: str, new: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    assert old in lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(old, new, 1)
    path.write_text("".join(lines))


def one_line(text: str) -> str:
    (line,) = text.splitlines()
    assert "Traceback" not in line
    assert line.isprintable()
    return line


# metrics.csv


def swap_rows(text: str) -> str:
    lines = text.splitlines(keepends=True)
    lines[5], lines[7] = lines[7], lines[5]
    return "".join(lines)


def change(number: int, old: str, new: str) -> Callable[[str], str]:
    def changed(text: str) -> str:
        lines = text.splitlines(keepends=True)
        assert old in lines[number]
        lines[number] = lines[number].replace(old, new, 1)
        return "".join(lines)

    return changed


DAMAGES: dict[str, Callable[[str], str]] = {
    "a number that is none": change(1, "eval,", "eval,1x.5"),
    "not a number": lambda text: text.replace(",eval,", ",eval,nan;", 2).replace("nan;", "nan,", 1),
    "an infinite loss": change(1, "eval,", "eval,1e999"),
    "a negative step": change(6, "6,", "-6,"),
    "digits of another script": change(6, "6,", "٦,"),
    "an unknown split": change(2, "train", "trial"),
    "a row twice": lambda text: "".join(
        line * (1 + (number == 7)) for number, line in enumerate(text.splitlines(True))
    ),
    "rows in another order": swap_rows,
    "a field of 200,000 characters": change(5, ",", "," + "9" * 200_000 + ","),
    "a quote": change(5, ",", ',"'),
    "a field too many": change(5, "\n", ",1\n"),
    "a zero byte": change(5, ",", "\0,"),
    "no header": lambda text: text.partition("\n")[2],
    "a column twice": change(0, "perplexity", "loss"),
    "nothing": lambda text: "",
    "the last rows missing": lambda text: "".join(text.splitlines(True)[:-3]),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("state", ["running", "done"])
def test_damaged_rows_are_trained_again(
    finished: Any, damage: str, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the same bytes, also of a run that says it is done; one line tells of it."""
    metrics = finished.folder.metrics
    metrics.write_text(DAMAGES[damage](metrics.read_text()))
    finished.folder.write_status(state=state)
    finished.ends_like_undisturbed()
    errors = [line for line in capsys.readouterr().err.splitlines() if "metrics.csv" in line]
    assert errors
    assert all(line.isprintable() for line in errors)


def test_a_number_changed_into_another_is_found(finished: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Each checkpoint knows a digest of the rows before it."""
    step, value = read_metrics(finished.folder.metrics)[2]["step"], read_metrics(finished.folder.metrics)[2]["loss"]
    text = finished.folder.metrics.read_text()
    assert text.count(f",{value},") == 1
    finished.folder.metrics.write_text(text.replace(f",{value},", f",{float(value) + 1:.9g},"))
    finished.folder.write_status(state="running")
    finished.ends_like_undisturbed()
    assert int(step) > 0
    assert "are not those that had been written" in capsys.readouterr().err


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(finished: Any, tmp_path: Path) -> None:
    content = finished.folder.metrics.read_bytes()
    changed = tmp_path / "metrics.csv"
    changed.write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert read_metrics(changed) == read_metrics(finished.folder.metrics)


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "the last rows missing"])
def test_a_reader_names_file_and_line_of_a_damage(finished: Any, damage: str, command: Command, tmp_path: Path) -> None:
    metrics = finished.folder.metrics
    metrics.write_text(DAMAGES[damage](metrics.read_text()))
    code, errors = command("figure", "loss", finished.folder.path, "--out", tmp_path / "figures")
    assert code == 2
    assert "metrics.csv: line " in one_line(errors)


def test_without_checkpoints_a_damaged_finished_run_is_refused(finished: Any) -> None:
    """It would have to be trained from the beginning: that is for its owner to decide."""
    shutil.rmtree(finished.folder.checkpoints)
    content = finished.folder.metrics.read_bytes()[:-5]
    finished.folder.metrics.write_bytes(content)
    with pytest.raises(UserError, match="no checkpoint to repair it from"):
        run_experiment(finished.experiment, finished.out)
    assert finished.folder.metrics.read_bytes() == content


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_metrics_that_vanish_while_the_run_works(tmp_path: Path, how: str) -> None:
    """Else the run would go on to ``done`` with rows that nobody can see."""
    path = tmp_path / "metrics.csv"
    row = MetricsRow(step=1, epoch=0.5, examples=2, split="train", loss=1.0, seconds=0.1)
    with MetricsFile(path, keep_until=None) as file:
        file.append(row)
        path.unlink()
        if how == "replaced":
            path.write_text("")
        with pytest.raises(OSError, match="removed or replaced"):
            file.append(row)


def test_ten_thousand_evaluations_are_read_and_looked_up_in_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    with MetricsFile(path, keep_until=None) as file:
        for step in range(10_000):
            file.append(MetricsRow(step=step, epoch=0.5, examples=step, split="eval", loss=1.0, seconds=0.1))
    assert len(rows_until(path, 9_000)) == 9_001
    with MetricsFile(path, keep_until=9_000) as file:
        assert [file.had(step, "eval") for step in range(9_999)].count(True) == 9_001


# checkpoints


def no_zip(path: Path, content: dict[str, Any]) -> None:
    path.write_text("x\n")


def other_model(path: Path, content: dict[str, Any]) -> None:
    torch.save(content | {"model": {"weight": torch.zeros(3)}}, path)


def other_step(path: Path, content: dict[str, Any]) -> None:
    torch.save(content | {"step": 20}, path)


def of_no_run(path: Path, content: dict[str, Any]) -> None:
    torch.save({"step": content["step"], "weights": content["model"]}, path)


def a_pipe(path: Path, content: dict[str, Any]) -> None:
    path.unlink()
    os.mkfifo(path)


def a_folder(path: Path, content: dict[str, Any]) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [no_zip, other_model, other_step, of_no_run, a_pipe, a_folder])
@pytest.mark.parametrize("measured", ["noise", "hessian"])
def test_measuring_at_a_damaged_checkpoint_is_one_line(
    finished: Any, damage: Callable[..., None], measured: str, command: Command
) -> None:
    path = Checkpoints(finished.folder.checkpoints).path(24)
    damage(path, load_checkpoint(path))
    code, errors = command(measured, finished.folder.path, "--at", "24")
    assert code == 2
    assert path.name in one_line(errors)


def test_the_optimizer_of_another_rule_is_one_line(finished: Any, command: Command) -> None:
    """Adam's moments are needed for the preconditioned spectra."""
    path = Checkpoints(finished.folder.checkpoints).path(24)
    content = load_checkpoint(path)
    torch.save(content | {"optimizer": {"state": {}, "param_groups": []}}, path)
    code, errors = command("hessian", finished.folder.path, "--at", "24", "-s", "hessian.adam=true")
    assert code == 2
    assert f"{path.name}: is of another model or optimizer" in one_line(errors)


@pytest.mark.parametrize("name", ["step_٠٠٠٠٣٠.pt", "step_30.pt", "step_000030.pt.bak", f"step_{'9' * 200}.pt"])
def test_files_with_odd_names_are_no_checkpoints(finished: Any, name: str) -> None:
    checkpoints = Checkpoints(finished.folder.checkpoints)
    known = checkpoints.steps()
    shutil.copy(checkpoints.path(24), finished.folder.checkpoints / name)
    assert checkpoints.steps() == known


def test_a_checkpoint_of_another_step_is_passed_over(finished: Any, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = Checkpoints(finished.folder.checkpoints)
    shutil.copy(checkpoints.path(20), checkpoints.path(24))
    finished.folder.write_status(state="running")
    finished.ends_like_undisturbed()
    assert "is a checkpoint of step 20, not of the step in its name" in capsys.readouterr().err


# status.json and config.yaml


@pytest.mark.parametrize(
    "content", [{"state": "done"}, {"state": "done", "step": -24}, {"state": "done", "step": 1e99}, {}, ["done"]]
)
def test_a_status_that_lacks_or_falsifies_keys_is_written_anew(finished: Any, content: Any, command: Command) -> None:
    config = finished.out / "config.yaml"
    config.write_text(dump_experiment(finished.experiment))
    status = finished.folder.path / "status.json"
    status.write_text(json.dumps(content))
    assert command("train", config, "--out", finished.out)[0] == 0
    assert (read := json.loads(status.read_text()))["state"] == "done"
    assert read["step"] == 24


def test_a_pipe_in_place_of_the_status_is_not_waited_for(finished: Any) -> None:
    status = finished.folder.path / "status.json"
    status.unlink()
    os.mkfifo(status)
    finished.ends_like_undisturbed()
    assert status.is_file()


@pytest.mark.parametrize(
    "edit",
    [
        lambda values: values["data"].update(examples=32),
        lambda values: values["data"].update(blocks=[[1, 2], [10, 11, 12]]),
        lambda values: values["noise"].update(batches=16),
        lambda values: values.update(seed=1),
    ],
)
def test_an_edited_config_is_refused_by_whatever_reads_the_run(
    finished: Any, edit: Callable[[dict[str, Any]], None], command: Command, tmp_path: Path
) -> None:
    """Also in a folder that was renamed; the run's own `train` line repairs it."""
    values = yaml.safe_load(finished.folder.config.read_text())
    edit(values)
    finished.folder.config.write_text(yaml.safe_dump(values))
    for name in (finished.folder.path.name, "renamed"):
        folder = finished.folder.path.rename(finished.folder.path.with_name(name))
        for line in (["noise", folder], ["hessian", folder], ["figure", "loss", folder, "--out", tmp_path / "figures"]):
            code, errors = command(*line)
            assert code == 2
            assert "config.yaml: was edited" in one_line(errors)
    folder.rename(finished.folder.path)
    finished.ends_like_undisturbed()


def test_keys_that_change_no_result_may_be_edited(finished: Any) -> None:
    values = yaml.safe_load(finished.folder.config.read_text())
    values["training"]["checkpoint_every"] = 2
    finished.folder.config.write_text(yaml.safe_dump(values))
    assert finished.folder.read_config().training.checkpoint_every == 2


def test_a_run_of_a_version_that_kept_no_digests_is_read(finished: Any) -> None:
    status = json.loads((finished.folder.path / "status.json").read_text())
    del status["config_digest"], status["data_digest"]
    (finished.folder.path / "status.json").write_text(json.dumps(status | {"state": "interrupted"}))
    assert finished.folder.read_config() == finished.experiment
    finished.ends_like_undisturbed()


# noise/step_*.npz


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_arrays(path: Path) -> None:
    np.savez(path, batch_norms=np.ones(3))


def no_arrays_of_ours(path: Path) -> None:
    np.savez(path, weights=np.ones(3))


def short_arrays(path: Path) -> None:
    arrays = dict(np.load(path))
    np.savez(path, **arrays | {"batch_running_variance": np.ones((3, 2))})


def texts(path: Path) -> None:
    arrays = dict(np.load(path))
    np.savez(path, **arrays | {"batch_norms": np.full(arrays["batch_norms"].shape, "one")})


def huge_header(path: Path) -> None:
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,), }".ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)


def objects(path: Path) -> None:
    np.savez(path, batch_norms=np.array([{}], dtype=object))


@pytest.mark.parametrize(
    "damage", [empty, other_arrays, no_arrays_of_ours, short_arrays, texts, huge_header, objects, a_pipe]
)
def test_damaged_noise_samples_are_one_line_that_names_the_file(
    finished: Any, damage: Callable[..., None], command: Command, tmp_path: Path
) -> None:
    path = finished.folder.path / "noise" / "step_000024.npz"
    damage(*(path, {}) if damage is a_pipe else (path,))
    code, errors = command("figure", "noise", finished.folder.path, "--out", tmp_path / "figures")
    assert code == 2
    assert "step_000024.npz" in one_line(errors)


# links


@pytest.mark.parametrize(
    "name",
    [
        "status.json.tmp",
        "config.yaml.tmp",
        "metrics.csv.tmp",
        "noise.csv.tmp",
        "noise/unfinished.tmp",
        "checkpoints/unfinished.tmp",
        "status.json",
        "config.yaml",
        "metrics.csv",
        "checkpoints/step_000024.pt",
        "hessian/step_000012.tmp",
    ],
)
def test_a_link_in_a_run_folder_is_never_written_through(finished: Any, name: str, tmp_path: Path) -> None:
    """A run folder from somebody else may hold links with the names of temporary files."""
    victim = tmp_path / "precious"
    victim.mkdir() if name.startswith("hessian") else victim.write_text("precious")
    link = finished.folder.path / name
    link.unlink(missing_ok=True)
    link.symlink_to(victim)
    if name != "status.json":
        finished.folder.write_status(state="running")
    for checkpoint in ("step_000024.pt", "step_000020.pt"):
        (finished.folder.checkpoints / checkpoint).unlink(missing_ok=True)
    shutil.rmtree(finished.folder.path / "hessian" / "step_000012")
    finished.ends_like_undisturbed()
    assert list(victim.iterdir()) == [] if victim.is_dir() else victim.read_text() == "precious"


def test_a_link_in_place_of_the_lock_is_refused(finished: Any, command: Command, tmp_path: Path) -> None:
    victim = tmp_path / "precious"
    victim.write_text("precious")
    lock = finished.folder.path / ".lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(victim)
    code, errors = command("noise", finished.folder.path)
    assert code == 1
    assert ".lock" in one_line(errors)
    assert victim.read_text() == "precious"
    assert RunFolder(finished.folder.path).is_finished()


# another data set, device, number of processes or version


WORDS = "\n".join(f"some words and the number {number} too" for number in range(2000))


@pytest.fixture
def text_run(tmp_path: Path) -> Callable[[], Any]:
    """Trains a small GPT2 on a text file that a test may change."""
    (tmp_path / "text.txt").write_text(WORDS)
    config = {
        "name": "text",
        "model": {"name": "gpt2_nano", "n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 16},
        "data": {"name": "text_file", "path": str(tmp_path / "text.txt"), "tokenizer": "char", "block_size": 16},
        "task": {"name": "causal_lm"},
        "optimizer": {"name": "adam", "lr": 0.003},
        "training": {"steps": 4, "batch_size": 4, "eval_every": 2, "eval_examples": 8, "checkpoint_every": 2},
    }
    return lambda: run_experiment(parse_experiment(config, "test"), tmp_path / "out")


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_other_data_is_refused_by_an_unfinished_run_and_told_of_a_finished_one(
    text_run: Callable[[], Any], tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing on the disk changes; with the old data again, the run goes on."""
    folder = text_run().folder
    (tmp_path / "text.txt").write_text(WORDS[::-1])
    before = snapshot(folder.path)
    capsys.readouterr()
    assert text_run().was_finished
    assert "the data has changed since this finished run" in one_line(capsys.readouterr().err)
    assert snapshot(folder.path) == before

    folder.write_status(state="interrupted")
    (folder.checkpoints / "step_000004.pt").unlink()
    before = snapshot(folder.path)
    with pytest.raises(UserError, match="not the data that this run was trained on") as refusal:
        text_run()
    one_line(str(refusal.value))
    code, errors = command("noise", folder.path, "--at", "2")
    assert code == 2
    assert "not the data that this run was trained on" in one_line(errors)
    assert snapshot(folder.path) == before

    (tmp_path / "text.txt").write_text(WORDS)
    assert text_run().state == "done"


def test_a_run_that_has_not_begun_takes_the_data_that_there_is(text_run: Callable[[], Any], tmp_path: Path) -> None:
    """Else a text that was mended after a first failure would need another folder."""
    folder = text_run().folder
    shutil.rmtree(folder.checkpoints)
    folder.metrics.unlink()
    folder.write_status(state="failed")
    (tmp_path / "text.txt").write_text(WORDS[::-1])
    assert text_run().state == "done"


def test_data_that_is_gone_leaves_a_finished_run_alone(
    text_run: Callable[[], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text_run()
    (tmp_path / "text.txt").unlink()
    capsys.readouterr()
    assert text_run().was_finished
    assert "its data cannot be read to compare" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"device": "cuda:1"}, ("device cuda", "device cpu")),
        ({"processes": 4}, ("processes 4", "processes 1")),
        ({"versions": {"torch": "1.13.1"}}, ("torch 1.13.1", f"torch {torch.__version__}")),
        ({"versions": {"whyadam": "99.0"}}, ("whyadam 99.0", f"whyadam {__version__}")),
        ({"device": "mps", "processes": 2}, ("device mps, processes 2", "device cpu, processes 1")),
        ({"device": "cpu", "versions": {"torch": torch.__version__.partition(".")[0] + ".999"}}, ()),
        ({"versions": {}}, ()),
    ],
)
@pytest.mark.parametrize("state", ["done", "interrupted"])
def test_another_device_number_of_processes_or_major_version_is_told(
    finished: Any, state: str, change: dict[str, Any], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    finished.folder.write_status(state=state, **change)
    run_experiment(finished.experiment, finished.out)
    errors = capsys.readouterr().err
    told = [line for line in errors.splitlines() if "numbers may differ" in line]
    assert len(told) == bool(words)
    assert all(word in told[0] for word in words)
