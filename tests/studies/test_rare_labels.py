"""Losses on rare and on frequent labels."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from whyadam.configs.load import parse_experiment
from whyadam.data.batches import evaluation_batches
from whyadam.studies import quantities as readings
from whyadam.studies.quantities import Halves, RarityGap, Reading, count_training_labels, losses_on_halves, rarer_half
from whyadam.tasks.problem import bind_task
from whyadam.training.run import run_experiment


@pytest.mark.parametrize(
    ("counts", "rare"),
    [
        ([8, 4, 2, 1, 1], [False, True, True, True, True]),  # exactly half
        ([9, 4, 2, 1, 0], [False, True, True, True, True]),
        ([7, 4, 2, 1, 2], [False, False, True, True, True]),  # with the 4 it would be more than half
        ([3, 3, 3, 3], [True, True, False, False]),
    ],
)
def test_the_rarer_half_has_at_most_half_of_the_labels(counts: list[int], rare: list[bool]) -> None:
    assert rarer_half(torch.tensor(counts)).tolist() == rare


@pytest.mark.parametrize("task", ["causal_lm", "masked_lm"])
def test_both_halves_together_are_the_evaluation_loss(task: str, gpt2_config: dict[str, Any], tmp_path: Path) -> None:
    """Catches other examples, other weights or another mode than those of the run's last evaluation."""
    model = {"name": "bert_nano" if task == "masked_lm" else "gpt2_nano", "n_layer": 1, "n_embd": 32, "n_head": 2}
    experiment = parse_experiment(gpt2_config | {"task": {"name": task}, "model": model}, "test")
    folder = run_experiment(experiment, tmp_path).folder
    halves = losses_on_halves(folder.path)
    assert halves is not None
    share = share_of_rare_labels(experiment)
    together = share * halves.rare + (1 - share) * halves.frequent
    assert together == pytest.approx(folder.read_status()["last_eval_loss"], rel=1e-5)
    assert halves.rare > halves.frequent + 0.1


def share_of_rare_labels(experiment: Any) -> float:
    """Of the evaluation, counted label by label."""
    task = bind_task(experiment.task, experiment.data, experiment.seed)
    rare = rarer_half(count_training_labels(task)).tolist()
    labels: list[int] = []
    for batch in evaluation_batches(task.evaluation, 8, limit=experiment.training.eval_examples):
        found: Tensor = batch["labels"].flatten()
        labels += found[found >= 0].tolist()
    return sum(rare[label] for label in labels) / len(labels)


def test_a_task_without_classes_has_no_halves(tmp_path: Path) -> None:
    config = {
        "name": "quadratic",
        "model": {"name": "point"},
        "data": {
            "name": "quadratic",
            "blocks": [[1, 2], [10, 11]],
            "noise": {"name": "student_t", "alpha": 3},
            "examples": 16,
        },
        "task": {"name": "quadratic"},
        "optimizer": {"name": "sgd", "lr": 0.01},
        "training": {"steps": 2, "batch_size": 2},
    }
    assert losses_on_halves(run_experiment(parse_experiment(config, "test"), tmp_path).folder.path) is None


def test_the_gap_is_that_on_rare_labels_less_that_on_frequent_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a wrong sign, and halves of one rule or seed that are taken for another's."""
    known = {("sgd", 0): (5.0, 3.0), ("adam", 0): (4.0, 2.5), ("sgd", 1): (5.0, 3.0), ("adam", 1): (4.75, 2.0)}
    known |= {("signum", 0): (9.0, 1.0), ("sgd", 2): (9.0, 1.0)}
    runs = [SimpleNamespace(trial=SimpleNamespace(arm=arm, seed=seed), folder=(arm, seed)) for arm, seed in known]
    result: Any = SimpleNamespace(final=runs, chosen={})
    monkeypatch.setattr(readings, "losses_on_halves", lambda folder: Halves(*known[folder]))
    found = list(RarityGap().readings("sweep", {"sweep": result}))
    assert found == [Reading(None, 0, 0.5, None, None), Reading(None, 1, -0.75, None, None)]
