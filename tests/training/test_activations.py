"""training.activation_checkpointing: less memory, the same numbers; and the memory that a run says it took."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from whyadam.configs.load import identity, parse_experiment
from whyadam.errors import UserError
from whyadam.tasks.problem import Problem, build_problem
from whyadam.training.devices import activation_checkpointing, peak_memory_mib
from whyadam.training.distributed import Replicated
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
