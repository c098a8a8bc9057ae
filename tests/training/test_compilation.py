"""training.compile: the same training in other kernels, and one line where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from whyadam.configs.load import identity, parse_experiment
from whyadam.errors import UserError
from whyadam.optimizers.kernels import find_compiler
from whyadam.tasks.problem import build_problem
from whyadam.training.checkpoint import Checkpoints, load_checkpoint
from whyadam.training.devices import CompiledProblem
from whyadam.training.metrics import read_metrics
from whyadam.training.run import run_experiment

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")


@pytest.fixture
def compiled_config(gpt2_config: dict[str, Any]) -> dict[str, Any]:
    gpt2_config["model"]["n_layer"] = 1
    gpt2_config["training"] |= {"compile": True, "micro_batch_size": 3, "checkpoint_every": 4}
    return gpt2_config


def test_where_compiling_fails_one_line_says_so(mlp_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise torch._dynamo.exc.TorchDynamoException("no working C++ compiler\nwith a long tail of details")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fails)
    experiment = parse_experiment(mlp_config, "test")
    problem = build_problem(experiment.model, experiment.data, experiment.task, seed=0)
    with pytest.raises(UserError, match=r"^training.compile: .* no working C\+\+ compiler$") as refusal:
        CompiledProblem(problem.model, problem.task).loss(problem.model, problem.train.batch([(0, 0)]))
    assert "\n" not in str(refusal.value)


def test_a_compiled_run_is_another_run(mlp_config: dict[str, Any]) -> None:
    """It rounds otherwise."""
    plain = identity(parse_experiment(mlp_config, "test"))
    mlp_config["training"]["compile"] = True
    assert identity(parse_experiment(mlp_config, "test")) != plain


@pytest.mark.slow
@needs_compiler
def test_a_compiled_run_takes_the_way_of_the_plain_one(compiled_config: dict[str, Any], tmp_path: Path) -> None:
    """Without dropout, whose random numbers are others; micro-batches of unequal sizes."""
    compiled_config["model"]["dropout"] = 0.0
    folders = []
    for compile_it in (True, False):
        compiled_config["training"]["compile"] = compile_it
        folders.append(run_experiment(parse_experiment(compiled_config, "test"), tmp_path).folder)
    compiled, plain = ([float(row["loss"]) for row in read_metrics(folder.metrics)] for folder in folders)
    assert compiled == pytest.approx(plain, rel=1e-4)
    names = [load_checkpoint(Checkpoints(folder.checkpoints).path(8))["model"].keys() for folder in folders]
    assert names[0] == names[1]


@pytest.mark.slow
@needs_compiler
def test_a_resumed_compiled_run_ends_in_the_same_bytes(compiled_config: dict[str, Any], tmp_path: Path) -> None:
    """Dropout on, compiled anew; catches kernels that depend on which batches came before."""
    experiment = parse_experiment(compiled_config, "test")
    weights = []
    for _ in range(2):
        torch.compiler.reset()
        folder = run_experiment(experiment, tmp_path).folder
        last = Checkpoints(folder.checkpoints).path(8)
        weights.append(load_checkpoint(last)["model"])
        last.unlink()
        status = folder.path / "status.json"
        status.write_text(json.dumps(folder.read_status() | {"state": "running"}))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
