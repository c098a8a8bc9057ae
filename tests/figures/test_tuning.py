"""Which setting is the best, what warns of it, and the picture of it, from run folders written by hand."""

from __future__ import annotations

import csv
import json
import warnings
from copy import deepcopy
from math import inf
from pathlib import Path
from typing import Any

import pytest
from whyadam.configs.load import dump_experiment, parse_experiment
from whyadam.errors import UserError
from whyadam.figures.loss import loss_table
from whyadam.figures.runs import find_runs, group_by_setting
from whyadam.figures.tuning import Comparison, all_warnings, compare, draw_sensitivity, tuning_table, write_tuning
from whyadam.training.metrics import MetricsFile, MetricsRow
from whyadam.training.run_folder import RunFolder


class Runs:
    """Writes run folders."""

    def __init__(self, config: dict[str, Any], out: Path) -> None:
        self.config = config
        self.out = out

    def write(self, name: str, lr: float, losses: list[float | None], state: str = "done", **training: Any) -> None:
        """A run a seed; a loss of None stands for one that diverged. All begin with an evaluation loss of 5."""
        for seed, loss in enumerate(losses):
            config = deepcopy(self.config) | {"seed": seed, "optimizer": {"name": name, "lr": lr}}
            config["training"] |= training
            experiment = parse_experiment(config, "test")
            folder = RunFolder.of(experiment, self.out)
            folder.path.mkdir(parents=True)
            folder.config.write_text(dump_experiment(experiment))
            with MetricsFile(folder.metrics, keep_until=None) as metrics:
                metrics.append(MetricsRow(step=0, epoch=0.0, examples=0, split="eval", loss=5.0, seconds=0.0))
            ending = (
                {"state": "diverged", "last_eval_loss": 1e-9}
                if loss is None
                else {"state": state, "last_eval_loss": loss}
            )
            (folder.path / "status.json").write_text(json.dumps(ending))

    def compare(self) -> list[Comparison]:
        return compare(find_runs([self.out]))


@pytest.fixture
def runs(mlp_config: dict[str, Any], tmp_path: Path) -> Runs:
    return Runs(mlp_config, tmp_path / "runs")


@pytest.fixture
def fair(runs: Runs) -> Runs:
    """Two optimizers with three rates and three seeds each, both best in the middle."""
    for lr, losses in {0.1: [2.0, 2.1, 9.0], 0.2: [1.0, 1.5, 9.0], 0.3: [0.5, None, None]}.items():
        runs.write("sgd", lr, losses)
    for lr in (0.01, 0.02, 0.03):
        runs.write("adam", lr, [1.0 + abs(lr - 0.02)] * 3)
    return runs


def test_the_best_has_the_lowest_median(fair: Runs) -> None:
    """The lowest mean of SGD would be 0.1's, if 0.2's third seed were worse; the lowest run is a diverged setting's."""
    (comparison,) = fair.compare()
    assert {rule.name: rule.best.varied["lr"] for rule in comparison.rules} == {"adam": 0.02, "sgd": 0.2}
    assert [setting.median for setting in comparison.rules[1].settings] == [2.1, 1.5, inf]
    assert list(comparison.warnings()) == []


def test_the_edge_of_a_grid_is_warned_of(runs: Runs) -> None:
    for lr in (0.1, 0.2):
        runs.write("sgd", lr, [lr])
        runs.write("adam", lr, [1 - lr])
    (comparison,) = runs.compare()
    edge = "lies at the edge of its grid: one beyond might be better"
    assert list(comparison.warnings()) == [
        f"tiny: the best lr of adam, 0.2, {edge}",
        f"tiny: the best lr of sgd, 0.1, {edge}",
    ]


def test_unequal_grids_are_warned_of(fair: Runs) -> None:
    fair.write("adam", 0.04, [1.5])
    (comparison,) = fair.compare()
    assert list(comparison.warnings()) == [
        "tiny: unequal grids, the number of settings tried is adam 4, sgd 3",
        "tiny: unequal grids, the seeds of a setting are 0 or 0,1,2",
    ]


def test_what_was_not_tuned_and_what_always_diverged_is_said(runs: Runs) -> None:
    runs.write("adam", 0.1, [1.0])
    for lr in (1.0, 2.0):
        runs.write("sgd", lr, [None])
    said = list(runs.compare()[0].warnings())
    assert said[:2] == [
        "tiny: adam has one setting, nothing was tuned",
        "tiny: sgd has no setting at which most seeds ended",
    ]


def test_runs_of_another_length_are_not_compared(fair: Runs) -> None:
    """A trial run of a few steps in the same folder must not be taken for a setting."""
    fair.write("sgd", 0.5, [0.1], steps=600)
    labels = {comparison.label: len(comparison.rules) for comparison in fair.compare()}
    assert labels == {"tiny training.steps=6": 2, "tiny training.steps=600": 1}


def test_how_often_a_run_was_logged_does_not_matter(fair: Runs) -> None:
    fair.write("sgd", 0.5, [4.0, 4.0, 4.0], log_every=1)
    assert len(fair.compare()) == 1


def test_unfinished_runs_do_not_count(runs: Runs) -> None:
    runs.write("sgd", 0.1, [1.0], state="interrupted")
    with pytest.raises(UserError, match="none of these runs is finished"):
        runs.compare()
    runs.write("sgd", 0.2, [2.0])
    assert [setting.median for setting in runs.compare()[0].rules[0].settings] == [2.0]


def test_the_table_and_the_csv_have_a_line_a_setting(fair: Runs, tmp_path: Path) -> None:
    lines = tuning_table(fair.compare()).splitlines()
    assert [line.split()[0] for line in lines[3:]] == ["adam"] * 3 + ["sgd"] * 3
    assert [line.endswith("best") for line in lines[3:]] == [False, True, False] * 2
    with write_tuning(fair.compare(), tmp_path / "tables" / "best.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["optimizer"], row["lr"], row["best"]) for row in rows[3:]] == [
        ("sgd", "0.1", "false"),
        ("sgd", "0.2", "true"),
        ("sgd", "0.3", "false"),
    ]
    assert [row["median_loss"] for row in rows[3:]] == ["2.1", "1.5", "inf"]
    assert [(row["diverged"], row["seeds"], row["tried"]) for row in rows[3:]] == [("0", "3", "3")] * 2 + [
        ("2", "3", "3")
    ]


def test_the_picture_marks_what_diverged_and_what_lies_above_the_start(
    fair: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    monkeypatch.setattr("whyadam.figures.tuning.save_figure", lambda figure, out: kept.append(figure) or [out])
    fair.write("sgd", 0.05, [7.0, 8.0, 9.0])
    draw_sensitivity(fair.compare(), fair.out / "sensitivity")
    (axes,) = kept[0].axes
    lines = {str(line.get_label()): line for line in axes.lines}
    assert list(lines["SGD"].get_xdata()) == [0.05, 0.1, 0.2, 0.3]
    assert list(lines["SGD"].get_ydata()) == [8.0, 2.1, 1.5, inf]
    marks = {line.get_marker(): list(line.get_xdata()) for line in axes.lines if line.get_color() == "#000000"}
    assert (marks["x"], marks["^"]) == ([0.3], [0.05])
    assert axes.get_ylim()[1] == 5.0
    assert axes.get_xscale() == "log"


def drawn_axes(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The one panel of the picture; matplotlib may warn of nothing."""
    kept: list[Any] = []
    monkeypatch.setattr("whyadam.figures.tuning.save_figure", lambda figure, out: kept.append(figure) or [out])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_sensitivity(runs.compare(), runs.out / "sensitivity")
        kept[0].canvas.draw()
    (axes,) = kept[0].axes
    return axes


@pytest.mark.parametrize(
    "losses",
    [
        {3.0: [6.0, 7.0], 10.0: [8.0, 8.5]},
        {3.0: [5.0, 5.0], 10.0: [5.0, 5.0]},
        {3.0: [None, None], 10.0: [None, None]},
        {3.0: [6.0, None], 10.0: [7.0, 8.0]},
        {3.0: [4.0, 9.0], 10.0: [6.0, 1e12]},
        {3.0: [6.0, 6.0]},
    ],
)
def test_larger_losses_are_higher_up_also_where_all_lie_above_the_start(
    runs: Runs, losses: dict[float, list[float | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upper limit below all of the data turns the axis upside down."""
    for lr, of_rate in losses.items():
        runs.write("sgd", lr, of_rate)
    axes = drawn_axes(runs, monkeypatch)
    bottom, top = axes.get_ylim()
    assert bottom < top
    finite = [value for line in axes.lines if line.get_label() == "SGD" for value in line.get_ydata() if value < inf]
    assert all(bottom <= value <= top for value in finite)
    assert any(line.get_label() == "before the first step" for line in axes.lines)


def test_the_median_is_over_the_finished_seeds_and_the_others_are_counted(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.write("sgd", 0.1, [1.0, 2.0, 1.5, 99.0])
    runs.write("sgd", 0.2, [3.0, 3.0, 3.0])
    running = next(run for run in find_runs([runs.out]) if run.experiment.seed == 3)
    (running.path / "status.json").write_text(json.dumps({"state": "running", "last_eval_loss": 99.0}))
    axes = drawn_axes(runs, monkeypatch)
    assert list(next(line for line in axes.lines if line.get_label() == "SGD").get_ydata()) == [1.5, 3.0]
    assert "1 unfinished run is left out" in axes.get_title()
    found = find_runs([runs.out])
    assert next(all_warnings(found, compare(found))) == "1 of 7 runs are not finished and left out"


def test_divergence_is_one_word_everywhere(fair: Runs) -> None:
    """A number, ``inf`` and a word for the same run in three tables."""
    fair.write("sgd", 0.4, [1.7, None, 1.5])
    lines = {line.split()[2]: line for line in tuning_table(fair.compare()).splitlines() if line.startswith("sgd")}
    assert "  diverged (2 of 3)" in lines["0.3"]
    assert "  1.7000, diverged (1 of 3)  1.5000 to 1.7000" in lines["0.4"]
    assert "inf" not in "".join(lines.values())
    table = loss_table(group_by_setting(find_runs([fair.out]))).splitlines()
    (partly,) = (line for line in table if line.split()[:2] == ["sgd", "0.3"])
    assert "0.500, diverged (2 of 3)" in partly
    assert "0.000" not in partly, "the loss at which a run stopped is no result"


def test_the_picture_is_written(fair: Runs) -> None:
    path = draw_sensitivity(fair.compare(), fair.out / "sensitivity")[0]
    assert path.name == "sensitivity.png"
    assert path.read_bytes()[:4] == b"\x89PNG"
