"""One step: exact accumulation, honest measurements."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from whyadam.configs.load import parse_experiment
from whyadam.configs.schema import Training
from whyadam.tasks.base import Batch
from whyadam.tasks.problem import Problem, build_problem
from whyadam.training.distributed import Replicated
from whyadam.training.step import accumulate_gradient, take_step


@pytest.fixture
def problem(gpt2_config: dict[str, Any]) -> Problem:
    gpt2_config["model"]["dropout"] = 0.0
    experiment = parse_experiment(gpt2_config, "test")
    return build_problem(experiment.model, experiment.data, experiment.task, seed=0)


@pytest.fixture
def masked_problem(gpt2_config: dict[str, Any]) -> Problem:
    """Every example has its own number of loss terms."""
    gpt2_config["model"] = {"name": "bert_nano", "n_layer": 1, "n_embd": 32, "n_head": 2, "dropout": 0.0}
    gpt2_config["task"] = {"name": "masked_lm"}
    experiment = parse_experiment(gpt2_config, "test")
    return build_problem(experiment.model, experiment.data, experiment.task, seed=0)


def gradient(problem: Problem, micro_batches: list[Batch]) -> torch.Tensor:
    problem.model.zero_grad()
    accumulate_gradient(Replicated(problem), micro_batches, "fp32")
    return torch.cat([p.grad.flatten() for p in problem.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("which", ["problem", "masked_problem"])
@pytest.mark.parametrize("sizes", [[2, 2, 2], [1, 5], [6]])
def test_any_split_in_micro_batches_gives_the_batchs_gradient(
    which: str, sizes: list[int], request: pytest.FixtureRequest
) -> None:
    """Averaging the averages of micro-batches would weigh tokens unequally."""
    problem: Problem = request.getfixturevalue(which)
    keys = [(0, index) for index in range(6)]
    whole = gradient(problem, [problem.train.batch(keys)])
    parts, start = [], 0
    for size in sizes:
        parts.append(problem.train.batch(keys[start : start + size]))
        start += size
    torch.testing.assert_close(gradient(problem, parts), whole, rtol=1e-5, atol=1e-7)


def test_the_measured_update_norm_is_the_way_gone(problem: Problem) -> None:
    """Plain SGD goes lr times the gradient's norm; also checks that measuring does not change the step."""
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.5)
    result = take_step(Replicated(problem), optimizer, [problem.train.batch([(0, 0)])], Training(steps=1), measure=True)
    assert result.update_norm is not None
    torch.testing.assert_close(result.update_norm, 0.5 * result.grad_norm, rtol=1e-4, atol=0)
    assert result.clip_fraction is None


def test_clip_grad_norm_applies_to_any_optimizer_and_the_norm_is_the_one_before(problem: Problem) -> None:
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=1.0)
    settings = Training(steps=1, clip_grad_norm=0.01)
    result = take_step(Replicated(problem), optimizer, [problem.train.batch([(0, 0)])], settings, measure=True)
    assert result.grad_norm > 0.1
    assert result.update_norm is not None
    assert float(result.update_norm) == pytest.approx(0.01, rel=1e-3)


def test_a_step_that_is_not_finite_is_not_taken(problem: Problem) -> None:
    first = next(problem.model.parameters())
    with torch.no_grad():
        first[0, 0] = float("inf")
    before = [parameter.detach().clone() for parameter in problem.model.parameters()]
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=1.0)
    result = take_step(Replicated(problem), optimizer, [problem.train.batch([(0, 0)])], Training(steps=1))
    assert not result.is_finite
    for parameter, old in zip(problem.model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
