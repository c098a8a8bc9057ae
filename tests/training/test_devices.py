"""Activation checkpointing, peak memory and ``torch.compile``: the same numbers, or one line why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from whyadam.configs.load import identity, parse_experiment
from whyadam.errors import UserError
from whyadam.optimizers.kernels import find_compiler
from whyadam.tasks.problem import Problem, build_problem
from whyadam.training.checkpoint import Checkpoints, load_checkpoint
from whyadam.training.devices import CompiledProblem, activation_checkpointing, peak_memory_mib
from whyadam.training.distributed import Replicated
from whyadam.training.metrics import read_metrics
from whyadam.training.run import run_experiment
from whyadam.training.step import accumulate_gradient


def build(config: dict[str, Any]) -> Problem:
    experiment = parse_experiment(config, "test")
    return build_problem(experiment.model, experiment.data, experiment.task, seed=0)


def loss_and_gradient(problem: Problem) -> tuple[torch.Tensor, list[torch.Tensor]]:
    torch.manual_seed(0)
    problem.model.train().zero_grad()
    loss = accumulate_gradient(Replicated(problem), [problem.train.batch([(0, 0), (0, 1)])], "fp32")
    return loss, [parameter.grad for parameter in problem.model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("model", ["gpt2_nano", "bert_nano"])
def test_losses_and_gradients_are_equal_and_blocks_run_twice(model: str, gpt2_config: dict[str, Any]) -> None:
    """Dropout on: catches a second pass with other random numbers."""
    gpt2_config["model"]["name"] = model
    gpt2_config["task"]["name"] = "causal_lm" if model == "gpt2_nano" else "masked_lm"
    problem = build(gpt2_config)
    kept = loss_and_gradient(problem)
    calls = []
    feed_forward = dict(problem.model.named_modules())[
        "transformer.h.0.mlp" if model == "gpt2_nano" else "bert.encoder.layer.0.intermediate"
    ]
    feed_forward.register_forward_pre_hook(lambda *_: calls.append(1))
    with activation_checkpointing(problem.model):
        computed_again = loss_and_gradient(problem)
    assert len(calls) == 2
    assert not any(getattr(module, "gradient_checkpointing", False) for module in problem.model.modules())
    assert torch.equal(kept[0], computed_again[0])
    assert all(torch.equal(one, other) for one, other in zip(kept[1], computed_again[1], strict=True))


@pytest.mark.slow
def test_a_run_stays_the_same_run_and_measures_as_before(gpt2_config: dict[str, Any], tmp_path: Any) -> None:
    """Gradients of single examples and second derivatives pass through the same model."""
    gpt2_config["model"] |= {"attention": "eager", "n_layer": 1}
    gpt2_config["training"] |= {"steps": 2}
    gpt2_config["noise"] = {"at": [2], "batches": 8, "batch_size": 2, "reference": 2, "examples": 8}
    gpt2_config["hessian"] = {"at": [2], "steps": 2, "probes": 1}
    results = []
    for again in (False, True):
        gpt2_config["training"]["activation_checkpointing"] = again
        experiment = parse_experiment(gpt2_config, "test")
        folder = run_experiment(experiment, tmp_path / str(again)).folder
        tables = [folder.path / "noise.csv", *sorted(folder.path.rglob("hessian/*/blocks.csv"))]
        assert len(tables) == 2
        results.append((identity(experiment), [table.read_text() for table in tables]))
    assert results[0] == results[1]


def test_a_model_that_cannot_do_it_is_refused_in_one_line(mlp_config: dict[str, Any], tmp_path: Any) -> None:
    mlp_config["training"]["activation_checkpointing"] = True
    with pytest.raises(UserError, match=r"^training\.activation_checkpointing: \w+ cannot do it") as refusal:
        run_experiment(parse_experiment(mlp_config, "test"), tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_run_says_how_much_memory_it_took(mlp_config: dict[str, Any], tmp_path: Any) -> None:
    """In MiB: a process with torch takes more than 100 of them and less than all there are."""
    before = peak_memory_mib(torch.device("cpu"))
    status = run_experiment(parse_experiment(mlp_config, "test"), tmp_path).folder.read_status()
    assert before is not None
    assert 100 < before <= status["peak_memory_mib"] < 100_000
    ballast = torch.ones(2**26)
    after = peak_memory_mib(torch.device("cpu"))
    assert after is not None
    assert after >= before
    assert after > ballast.nbytes / 2**20


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
