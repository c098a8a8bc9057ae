"""The best point of a grid, from outcomes made by hand."""

from __future__ import annotations

import re
from math import inf
from pathlib import Path
from typing import Any

import pytest
from whyadam.configs.load import parse_experiment
from whyadam.studies.sweeps.outcomes import Outcome, choose
from whyadam.studies.sweeps.plan import Trial
from whyadam.studies.sweeps.sweep import SweepResult, sweep_table


@pytest.fixture
def outcome(mlp_config: dict[str, Any]) -> Any:
    """Makes an outcome; all have the same experiment, which choosing does not look at."""
    experiment = parse_experiment(mlp_config, "test")

    def make(point: dict[str, Any], loss: float, seed: int = 0, arm: str = "sgd", state: str = "done") -> Outcome:
        trial = Trial(arm, point, seed, experiment, Path("config.yaml"), ())
        return Outcome(trial, Path(f"{arm}-{point}-{seed}"), state, None, loss, {})

    return make


def test_the_median_over_seeds_decides(outcome: Any) -> None:
    """A mean would take 0.2, the lowest single run 0.1; a diverged seed makes no median infinite by itself."""
    losses = {0.1: [1.0, 9.0, 9.0], 0.2: [3.0, 3.1, 3.2], 0.3: [2.0, 2.9, inf], 0.4: [2.0, inf, inf]}
    outcomes = [
        outcome({"optimizer.lr": lr}, loss, seed) for lr, runs in losses.items() for seed, loss in enumerate(runs)
    ]
    chosen = choose(outcomes)["sgd"]
    assert (chosen.point, chosen.loss, chosen.tried, chosen.at_edge) == ({"optimizer.lr": 0.3}, 2.9, 4, False)


@pytest.mark.parametrize(
    ("best", "at_edge"),
    [({"lr": 0.1, "clip": 2}, True), ({"lr": 0.2, "clip": 2}, False), ({"lr": 0.2, "clip": 3}, True)],
)
def test_the_edge_of_any_key_counts(outcome: Any, best: dict[str, Any], at_edge: bool) -> None:
    points = [{"lr": lr, "clip": clip} for lr in (0.1, 0.2, 0.3) for clip in (1, 2, 3)]
    outcomes = [outcome(point, 1.0 if point == best else 2.0) for point in points]
    assert choose(outcomes)["sgd"].at_edge is at_edge


def test_one_value_and_words_have_no_edge(outcome: Any) -> None:
    points = [{"lr": 0.1, "schedule.name": name, "nesterov": flag} for name in ("linear", "cosine") for flag in (0, 1)]
    outcomes = [outcome(point | {"nesterov": bool(point["nesterov"])}, 1.0) for point in points]
    assert not choose(outcomes)["sgd"].at_edge


def test_each_arm_has_its_own_edge(outcome: Any) -> None:
    """Adam's rates lie beside SGD's: only its own count."""
    outcomes = [outcome({"lr": lr}, abs(lr - 0.1)) for lr in (0.03, 0.1, 0.3)]
    outcomes += [outcome({"lr": lr}, abs(lr - 0.01), arm="adam") for lr in (0.01, 0.1)]
    chosen = choose(outcomes)
    assert {arm: (choice.point["lr"], choice.at_edge) for arm, choice in chosen.items()} == {
        "sgd": (0.1, False),
        "adam": (0.01, True),
    }


@pytest.mark.parametrize("state", ["failed", "interrupted"])
def test_an_arm_with_a_missing_result_has_no_best(outcome: Any, state: str) -> None:
    outcomes = [outcome({"lr": 0.1}, 1.0), outcome({"lr": 0.2}, inf, state=state), outcome({}, 1.0, arm="adam")]
    assert list(choose(outcomes)) == ["adam"]


def test_where_everything_diverged_the_first_stands_for_all(outcome: Any) -> None:
    chosen = choose(outcome({"lr": lr}, inf, state="diverged") for lr in (1.0, 2.0))["sgd"]
    assert (chosen.point, chosen.loss, chosen.at_edge) == ({"lr": 1.0}, inf, True)


def test_the_table_says_how_many_runs_diverged_or_failed_and_never_inf(outcome: Any) -> None:
    """The median is that of the results; a failed run is none, a diverged one is infinitely bad."""
    endings = {
        0.1: [(1.0, "done"), (2.0, "done"), (inf, "diverged")],
        0.2: [(1.0, "done"), (inf, "diverged"), (inf, "diverged")],
        0.3: [(1.0, "done"), (3.0, "done"), (inf, "failed")],
        0.4: [(inf, "failed")],
    }
    outcomes = [
        outcome({"optimizer.lr": lr}, loss, seed, state=state)
        for lr, runs in endings.items()
        for seed, (loss, state) in enumerate(runs)
    ]
    cells = [re.split(r"  +", line)[1:] for line in sweep_table(SweepResult(outcomes, {}, [])).splitlines()[2:]]
    assert cells == [
        ["lr=0.1", "3", "diverged (1 of 3)", "2.0000, diverged (1 of 3)", "1.0000 to 2.0000"],
        ["lr=0.2", "3", "diverged (2 of 3)", "diverged (2 of 3)"],
        ["lr=0.3", "3", "failed (1 of 3)", "2.0000", "1.0000 to 3.0000"],
        ["lr=0.4", "1", "failed (1 of 1)"],
    ]
