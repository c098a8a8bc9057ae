"""Networks that know no more than label frequencies make no verdict on optimizers."""

from __future__ import annotations

from collections import Counter
from math import log
from pathlib import Path

import pytest
from whyadam.configs.load import load_experiment
from whyadam.studies.claims import Claim
from whyadam.studies.judging import judge
from whyadam.studies.quantities import loss_of_frequencies
from whyadam.studies.summary import SummaryRow
from whyadam.tasks.problem import bind_task

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
