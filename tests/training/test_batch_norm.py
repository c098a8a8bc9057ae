"""BatchNorm: a step's gradient is that of the full batch or is refused in one line; evaluation is never refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from whyadam.configs.load import parse_experiment
from whyadam.configs.schema import Training
from whyadam.errors import UserError
from whyadam.models.modules import uses_batch_statistics
from whyadam.noise.record import NoiseRecord
from whyadam.tasks.problem import Problem, build_problem
from whyadam.training.distributed import SINGLE, Replicated, synchronize_batch_norm
from whyadam.training.metrics import read_metrics
from whyadam.training.noise_meter import NoiseMeter
from whyadam.training.run import run_experiment
from whyadam.training.step import accumulate_gradient

MODULE = """
from torch import nn

def flat(classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 16), nn.BatchNorm1d(16), nn.Linear(16, classes))

def spatial(classes=10):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )

class Frozen(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.layers = spatial(classes)

    def forward(self, images):
        return self.layers(images)

    def train(self, mode=True):
        super().train(mode)
        self.layers[1].eval()
        return self
"""


@pytest.fixture
def train(
    mlp_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[dict[str, str]]]:
    """Trains a model of ``MODULE`` for two steps; the rows of metrics.csv."""
    (tmp_path / "normalised_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def run(model: str, **training: Any) -> list[dict[str, str]]:
        mlp_config["model"] = {"name": f"normalised_models:{model}"}
        settings = {"steps": 2, "batch_size": 32, "log_every": 1, "eval_examples": 9, "eval_batch_size": 4}
        mlp_config["training"] = settings | training
        return read_metrics(run_experiment(parse_experiment(mlp_config, "test"), tmp_path / "out").folder.metrics)

    return run


@pytest.mark.parametrize("model", ["flat", "spatial"])
@pytest.mark.parametrize("sizes", [(32, 8), (32, 31), (33, 16), ("full", 1024)])
def test_micro_batches_are_refused_before_the_first_step(
    train: Callable[..., Any], model: str, sizes: tuple[Any, int], tmp_path: Path
) -> None:
    """Each would be normalised by its own statistics: the gradient would depend on how the batch is cut."""
    with pytest.raises(UserError, match=r"^training\.micro_batch_size: BatchNorm needs .* full batch") as refusal:
        train(model, batch_size=sizes[0], micro_batch_size=sizes[1])
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.rglob("*.pt"))


def test_the_gradient_of_micro_batches_is_another() -> None:
    """Why they are refused: 10 % and more of the gradient on plain numbers."""
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), torch.randn(8, 3)
    (full,) = torch.autograd.grad(model(inputs).pow(3).mean(), model[0].weight)
    parts = [torch.autograd.grad(model(part).pow(3).mean(), model[0].weight)[0] / 2 for part in inputs.split(4)]
    assert (sum(parts) - full).norm() > 0.1 * full.norm()


def test_a_micro_batch_as_large_as_the_batch_changes_nothing(train: Callable[..., Any]) -> None:
    whole, same = train("flat"), train("flat", micro_batch_size=32)
    assert [row["loss"] for row in whole] == [row["loss"] for row in same]


def test_a_batch_of_one_is_one_line_where_batch_norm_is_undefined(train: Callable[..., Any]) -> None:
    """One value per channel has no variance; the pixels of one image have."""
    with pytest.raises(UserError, match=r"^training\.batch_size: BatchNorm cannot train on one example") as refusal:
        train("flat", batch_size=1)
    assert "\n" not in str(refusal.value)
    assert len(train("spatial", batch_size=1)) == 4


def test_frozen_batch_norm_and_evaluation_are_never_refused(train: Callable[..., Any]) -> None:
    """The evaluation's last batch is a single example; a frozen layer does not use the batch."""
    rows = train("Frozen", micro_batch_size=1)
    assert len([row for row in rows if row["split"] == "eval"]) == 2


def test_frozen_layers_give_the_gradient_of_the_batch(mlp_config: dict[str, Any]) -> None:
    mlp_config["model"] = {"name": "resnet18"}
    experiment = parse_experiment(mlp_config, "test")
    problem = build_problem(experiment.model, experiment.data, experiment.task, seed=0)
    problem.model.eval()
    assert not uses_batch_statistics(problem.model)
    assert synchronize_batch_norm(problem, Training(steps=1, batch_size=4, micro_batch_size=2), 4, SINGLE) is problem
    keys = [(0, index) for index in range(4)]
    whole = gradient(problem, [keys])
    torch.testing.assert_close(gradient(problem, [keys[:1], keys[1:]]), whole, rtol=1e-4, atol=1e-6)


def gradient(problem: Problem, parts: list[list[tuple[int, int]]]) -> torch.Tensor:
    problem.model.zero_grad()
    accumulate_gradient(Replicated(problem), [problem.train.batch(keys) for keys in parts], "fp32")
    return torch.cat([p.grad.flatten() for p in problem.model.parameters() if p.grad is not None])


@pytest.mark.parametrize(("mode", "is_refused"), [("train", True), ("eval", False)])
def test_noise_in_micro_batches_is_refused_in_training_mode(
    mlp_config: dict[str, Any], tmp_path: Path, mode: str, is_refused: bool
) -> None:
    """Of a run that an older version has trained so, its noise is measured in evaluation mode alone."""
    mlp_config["model"] = {"name": "resnet18", "stem": "small"}
    mlp_config["training"] |= {"batch_size": 4, "micro_batch_size": 2}
    mlp_config["noise"] = {"batches": 8, "reference": 2, "mode": mode}
    experiment = parse_experiment(mlp_config, "test")
    problem = build_problem(experiment.model, experiment.data, experiment.task, seed=0)
    meter = NoiseMeter(experiment, problem, NoiseRecord(tmp_path))
    if is_refused:
        with pytest.raises(UserError, match=r"^training\.micro_batch_size: .* noise\.mode: eval$"):
            meter.measure(0)
    else:
        assert meter.measure(0).rows
