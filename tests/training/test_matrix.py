"""Every optimizer on every kind of model takes real steps; real data files train where they exist."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from whyadam.configs.load import parse_experiment
from whyadam.optimizers import OPTIMIZERS
from whyadam.training.metrics import read_metrics
from whyadam.training.run import run_experiment

HYPERPARAMETERS: dict[str, dict[str, float]] = {
    "gclip": {"clip": 1.0},
    "cclip": {"clip": 1e-3},
}

IMAGES = {"data": {"name": "mnist5k"}, "task": {"name": "classification"}}
PROBLEMS: dict[str, dict[str, Any]] = {
    "resnet18": {"model": {"name": "resnet18"}, **IMAGES},
    "vgg16": {"model": {"name": "vgg16", "head": "small", "layers": [1, 1, 1, 1, 1]}, **IMAGES},
    "gpt2_nano": {
        "model": {"name": "gpt2_nano", "n_layer": 2, "n_embd": 32, "n_head": 2},
        "data": {"name": "kjv", "tokenizer": "char", "block_size": 32},
        "task": {"name": "causal_lm"},
    },
    "bert_nano": {
        "model": {"name": "bert_nano", "n_layer": 2, "n_embd": 32, "n_head": 2},
        "data": {"name": "kjv", "tokenizer": "char", "block_size": 32},
        "task": {"name": "masked_lm"},
    },
}


def train(problem: dict[str, Any], out: Path, optimizer: dict[str, Any], **training: Any) -> list[dict[str, str]]:
    settings = {"steps": 3, "batch_size": 8, "eval_examples": 8, "log_every": 1} | training
    config = {"name": "matrix", "optimizer": optimizer, "training": settings, **problem}
    result = run_experiment(parse_experiment(config, "test"), out)
    assert result.state == "done"
    return read_metrics(result.folder.metrics)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_optimizer_takes_three_steps_on_every_problem(problem: str, optimizer: str, tmp_path: Path) -> None:
    rows = train(PROBLEMS[problem], tmp_path, {"name": optimizer, "lr": 1e-3} | HYPERPARAMETERS.get(optimizer, {}))
    trained = [row for row in rows if row["split"] == "train"]
    assert len(trained) == 3
    assert all(math.isfinite(float(row["loss"])) and float(row["update_norm"]) > 0 for row in trained)
    assert all((row["clip_fraction"] != "") == ("clip" in optimizer) for row in trained)


def losses(rows: list[dict[str, str]], split: str) -> list[float]:
    return [float(row["loss"]) for row in rows if row["split"] == split]


def test_resnet18_with_the_small_stem_learns_from_the_cifar10_jpegs(data_folder: Path, tmp_path: Path) -> None:
    data = {
        "name": "image_folder",
        "path": str(data_folder),
        "evaluation_folder": "test",
        "image_size": 32,
        "limit": 20,
        "in_memory": True,
    }
    problem = {"model": {"name": "resnet18", "stem": "small"}, "data": data, "task": {"name": "classification"}}
    adam = {"name": "adam", "lr": 1e-3}
    rows = train(problem, tmp_path, adam, steps=15, batch_size=32, eval_examples=40)
    assert losses(rows, "train")[-1] < losses(rows, "train")[0] - 0.3


def test_bert_answers_xquad_questions(data_folder: Path, tmp_path: Path) -> None:
    problem = {
        "model": {"name": "bert_nano", "n_layer": 2, "n_embd": 64},
        "data": {"name": "squad", "path": str(data_folder / "xquad.en.json"), "vocab_size": 1000},
        "task": {"name": "question_answering", "max_length": 128, "stride": 32},
    }
    rows = train(problem, tmp_path, {"name": "adam", "lr": 1e-3}, steps=12, batch_size=16, eval_examples=40)
    assert losses(rows, "train")[-1] < losses(rows, "train")[0] - 0.3
    assert all(0 <= float(row["f1"]) <= 1 and row["exact_match"] for row in rows if row["split"] == "eval")


@pytest.mark.parametrize(
    ("file", "evaluation_file"), [("wikitext2.valid.txt", "wikitext2.test.txt"), ("tinyshakespeare.txt", None)]
)
def test_gpt2_nano_reads_text_files(file: str, evaluation_file: str | None, data_folder: Path, tmp_path: Path) -> None:
    data = {"name": "text_file", "path": str(data_folder / file), "tokenizer": "char", "block_size": 32}
    if evaluation_file:
        data["evaluation_path"] = str(data_folder / evaluation_file)
    problem = PROBLEMS["gpt2_nano"] | {"data": data}
    rows = train(problem, tmp_path, {"name": "adam", "lr": 3e-3}, steps=20)
    assert losses(rows, "eval")[-1] < losses(rows, "eval")[0] - 0.5
