"""What is read off networks: the loss of label frequencies, and losses on rare and frequent labels."""

from __future__ import annotations

from collections import Counter
from math import log
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from whyadam.configs.load import load_experiment, parse_experiment
from whyadam.data.batches import evaluation_batches
from whyadam.studies import quantities as readings
from whyadam.studies.claims import Claim
from whyadam.studies.judging import judge
from whyadam.studies.quantities import (
    QUANTITIES,
    Halves,
    Reading,
    count_training_labels,
    loss_of_frequencies,
    losses_on_halves,
    rarer_half,
)
from whyadam.studies.summary import SummaryRow
from whyadam.tasks.problem import bind_task
from whyadam.training.run import run_experiment

QUICK = Path(__file__).parents[2] / "configs" / "quick"


def rows(subject: str, quantity: str, values: list[float]) -> list[SummaryRow]:
    key = {"study": "curves", "scale": "quick", "subject": subject, "quantity": quantity}
    return [SummaryRow(**key, seed=seed, value=value, tried=5, at_edge=False) for seed, value in enumerate(values)]


def curves(sgd: float, adam: float, frequencies: float) -> list[SummaryRow]:
    """A summary with losses around these on three seeds."""
    return [
        *rows("bert/sgd", "final_eval_loss", [sgd, sgd + 0.01, sgd - 0.01]),
        *rows("bert/adam", "final_eval_loss", [adam, adam - 0.01, adam + 0.01]),
        *rows("bert", "loss_of_frequencies", 3 * [frequencies]),
    ]


SGD_ABOVE_ADAM = Claim(
    name="c",
    claim="paper 3",
    statement="SGD ends above Adam.",
    study="curves",
    quantity="final_eval_loss",
    left="bert/sgd",
    right="bert/adam",
    claimed="above",
    margin=0.05,
)


@pytest.mark.parametrize(
    ("sgd", "adam", "frequencies", "verdict"),
    [(6.04, 6.04, 6.05, "inconclusive"), (6.04, 6.04, 6.5, "contradicted"), (6.04, 5.0, 6.05, "reproduced")],
)
def test_losses_count_once_one_side_has_learned(sgd: float, adam: float, frequencies: float, verdict: str) -> None:
    """Without the check two networks at the loss of word frequencies would contradict every claimed difference."""
    found = judge(SGD_ABOVE_ADAM, curves(sgd, adam, frequencies), "quick")
    assert found.verdict == verdict
    assert ("on bert too little is learned" in found.reason) == (verdict == "inconclusive")
    assert found.effect


def test_a_gap_is_that_of_sgd_and_adam() -> None:
    """The losses that decide are those of the sweep's two arms, not of a subject of the sweep's own name."""
    gap = SGD_ABOVE_ADAM.model_copy(update={"quantity": "gap", "left": "bert", "right": None, "compare": "value"})
    with_gap = [*curves(6.04, 6.04, 6.05), *rows("bert", "gap", [0.2, 0.21, 0.2])]
    assert judge(gap, with_gap, "quick").verdict == "inconclusive"
    assert (
        judge(gap, [*curves(6.04, 5.0, 6.05), *rows("bert", "gap", [0.2, 0.21, 0.2])], "quick").verdict == "reproduced"
    )


def test_frequencies_of_a_text_by_hand() -> None:
    """Counted in plain Python; labels that are left out or counted twice would show."""
    experiment = load_experiment(QUICK / "gpt2_nano_kjv.yaml", ["data.tokenizer=char", "training.eval_examples=20"])
    text = bind_task(experiment.task, experiment.data, experiment.seed)
    seen = Counter(dict.fromkeys(range(text.head.outputs), 1))
    blocks = range(0, len(text.train), -(-len(text.train) // 16_384))
    for index in blocks:
        seen.update(text.train.batch([(0, index)])["labels"][0].tolist())
    evaluated = [label for index in range(20) for label in text.evaluation.batch([(0, index)])["labels"][0].tolist()]
    by_hand = -sum(log(seen[label] / seen.total()) for label in evaluated) / len(evaluated)
    assert loss_of_frequencies(experiment) == pytest.approx(by_hand, rel=1e-9)


def test_frequencies_of_balanced_digits_are_those_of_chance() -> None:
    """Ten classes of 500 each: ln 10 up to what smoothing does."""
    found = loss_of_frequencies(load_experiment(QUICK / "mlp_mnist5k.yaml"))
    assert found == pytest.approx(log(10), abs=1e-3)


def test_a_task_without_classes_has_no_frequencies() -> None:
    """A quadratic has a loss and no labels."""
    assert loss_of_frequencies(load_experiment(QUICK / "quadratic.yaml")) is None


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
    found = list(QUANTITIES["rarity_gap"].readings("sweep", {"sweep": result}))
    assert found == [Reading(None, 0, 0.5, None, None), Reading(None, 1, -0.75, None, None)]
