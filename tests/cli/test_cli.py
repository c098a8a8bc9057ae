"""The command as a shell sees it: output, one-line errors, exit codes, and how fast it answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import yaml
from PIL import Image


def whyadam(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "whyadam.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture
def config_file(tmp_path: Path, mlp_config: dict[str, Any]) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(mlp_config))
    return path


def test_train_then_figure(config_file: Path, tmp_path: Path) -> None:
    """The user's first two commands."""
    trained = whyadam("train", config_file, "-s", "optimizer.name=adam", "-s", "optimizer.lr=1e-3", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "done at step 6, evaluation loss" in trained.stdout
    assert "\r" not in trained.stderr, "a progress bar in a file"
    again = whyadam("train", config_file, "-s", "optimizer.name=adam", "-s", "optimizer.lr=1e-3", cwd=tmp_path)
    assert "was already done" in again.stdout
    drawn = whyadam("figure", "loss", "runs", "--out", "picture", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    assert "adam" in drawn.stdout
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    assert (tmp_path / "picture.pdf").exists()


def test_divergence_is_a_result_unless_asked_otherwise(config_file: Path, tmp_path: Path) -> None:
    arguments = ["train", config_file, "-s", "optimizer.lr=1e30", "-s", "training.steps=30"]
    assert whyadam(*arguments, cwd=tmp_path).returncode == 0
    assert whyadam(*arguments, "--fail-on-divergence", cwd=tmp_path).returncode == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-s", "optimizer.momentun=0.9"], "optimizer.momentun: unknown key; did you mean momentum?"),
        (["-s", "training.device=cuda:99"], "training.device: cuda:99 is not there"),
        (["-s", "optimizer.name=no.such:Class"], "no.such:Class"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    config_file: Path, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    answer = whyadam("train", config_file, *arguments, cwd=tmp_path)
    assert answer.returncode == 2
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    assert expected in answer.stderr


def test_a_warning_is_one_line(config_file: Path, tmp_path: Path) -> None:
    """Python's own form has the file and the source line of the code that warns."""
    for folder in ("train/a", "train/b", "val/a", "val/b"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("1", "2"):
            Image.new("RGB", (32, 32), "red").save(tmp_path / folder / f"{name}.png")
    (tmp_path / "train" / "a" / "moving.gif").touch()
    data = f"data={{name: image_folder, path: {tmp_path}, image_size: 32}}"
    changes = ["-s", data, "-s", "training.batch_size=2", "-s", "training.steps=1"]
    trained = whyadam("train", config_file, *changes, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    told = f"data.train_folder: left out in {tmp_path / 'train'}, no images by their names: 1 of .gif"
    assert trained.stderr.splitlines() == [f"warning: {told}"]


def test_validate_shows_every_problem(config_file: Path, tmp_path: Path) -> None:
    good = whyadam("validate", config_file, cwd=tmp_path)
    assert (good.returncode, good.stdout.strip()) == (0, f"{config_file}: valid")
    bad = whyadam("validate", config_file, "-s", "seed=-1", "-s", "training.steps=0", cwd=tmp_path)
    assert bad.returncode == 2
    assert len(bad.stderr.strip().splitlines()) == 2


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("optimizers", ["sgd", "adam", "gclip", "cclip", "acclip", "acclip_rms", "signum", "normalized_sgd"]),
        ("models", ["resnet18", "vgg16", "gpt2_nano", "bert_base", "vit_base", "mlp"]),
        ("data", ["kjv", "mnist5k", "cifar10", "image_folder", "text_file", "hf_text", "squad"]),
        ("tasks", ["classification", "causal_lm", "masked_lm", "question_answering"]),
        ("configs", ["quick/gpt2_nano_kjv", "paper/bert_base_squad"]),
    ],
)
def test_list_names_everything_with_a_line_each(what: str, names: list[str], tmp_path: Path) -> None:
    answer = whyadam("list", what, cwd=tmp_path)
    assert answer.returncode == 0
    first_words = [line.split()[0] for line in answer.stdout.splitlines()]
    assert set(names) <= set(first_words)
    assert all(len(line.split()) > 2 for line in answer.stdout.splitlines())


def test_figure_loss_says_which_runs_it_leaves_out(config_file: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        assert whyadam("train", config_file, "--seed", str(seed), cwd=tmp_path).returncode == 0
    status = next(tmp_path.glob("runs/tiny/*seed1*/status.json"))
    status.write_text(status.read_text().replace('"done"', '"interrupted"'))
    drawn = whyadam("figure", "loss", "runs", cwd=tmp_path)
    assert (drawn.returncode, drawn.stderr.strip()) == (0, "warning: 1 of 2 runs are not finished and left out")


def test_no_run_folder_is_said_in_one_line(tmp_path: Path) -> None:
    answer = whyadam("figure", "loss", tmp_path, cwd=tmp_path)
    assert answer.returncode == 2
    assert "no run folder here" in answer.stderr


@pytest.mark.parametrize("module", ["whyadam", "whyadam.cli"])
def test_the_package_is_the_command(module: str, tmp_path: Path) -> None:
    """``python -m whyadam``, and ``torchrun -m whyadam.cli`` as it was."""
    answers = [
        subprocess.run([sys.executable, "-m", module, option], capture_output=True, text=True, check=True, cwd=tmp_path)
        for option in ("--version", "-h", "--help")
    ]
    assert answers[0].stdout == f"whyadam {version('whyadam')}\n"
    assert "Commands:" in answers[1].stdout
    assert answers[1].stdout == answers[2].stdout


def test_help_answers_in_less_than_twice_the_time_of_importing_typer(tmp_path: Path) -> None:
    def seconds(*command: str) -> float:
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True, cwd=tmp_path, env=os.environ)
        return time.perf_counter() - start

    pairs = [
        (seconds(sys.executable, "-m", "whyadam.cli", "--help"), seconds(sys.executable, "-c", "import typer"))
        for _ in range(7)
    ]
    assert median(ours / theirs for ours, theirs in pairs) < 2
