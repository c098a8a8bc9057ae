"""The studies of heterogeneity, imbalance and all three causes, tiny: tables, pictures, and what they take up again."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from whyadam.files import Row
from whyadam.studies.coded import causes, heterogeneous_mlp, imbalance
from whyadam.studies.coded.tuned_runs import by_rate, gap_row, summary_row, tuned_rows
from whyadam.studies.run import run_study
from whyadam.synthetic.batched_training import Training


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rows(optimizer: str, losses: list[list[float]]) -> list[Row]:
    """Rows of runs with losses ``[rates][seeds]``; the column of group 0 holds ten times the loss."""
    return [
        {"optimizer": optimizer, "lr": 10.0**i, "seed": j, "loss": loss, "loss_group_0": 10 * loss}
        for i, of_rate in enumerate(losses)
        for j, loss in enumerate(of_rate)
    ]


def test_summary_takes_the_rate_with_the_lowest_mean_and_its_interval() -> None:
    measured = summary_row(rows("sgd", [[5, 5, 5], [1, 2, 3], [9, 9, math.inf]]), seed=0)
    assert (measured["lr"], measured["rates"], measured["at_edge"], measured["value"]) == (10, 3, False, 2)
    assert 1 <= measured["ci_low"] < 2 < measured["ci_high"] <= 3


def test_another_column_is_reported_at_the_rate_that_the_loss_chooses() -> None:
    measured = rows("sgd", [[5, 5], [1, 3]])
    measured[0]["loss_group_0"] = measured[1]["loss_group_0"] = 0.0
    assert summary_row(measured, 0, "loss_group_0")["value"] == 20
    assert summary_row(measured, 0)["at_edge"]


def test_gap_is_paired_by_seed() -> None:
    """Where the difference is the same for every seed it is known exactly, however much the seeds differ."""
    sgd, adam = rows("sgd", [[3, 103, 1003]]), rows("adam", [[2, 102, 1002]])
    assert gap_row(sgd, adam, seed=0) == {"value": 1, "ci_low": 1, "ci_high": 1}


def test_runs_that_diverged_are_infinitely_bad() -> None:
    assert by_rate(rows("sgd", [[1, math.nan]])).tolist() == [[1, math.inf]]


def test_losses_of_parts_are_means_over_their_examples_and_empty_without_any() -> None:
    settings = imbalance.SCALES["tiny"]
    starts = [imbalance._start(settings, "linear", 0.0, seed) for seed in (0, 1)]
    even = (torch.arange(settings.examples) % 2 == 0).expand(2, -1)
    parts = {"even": even, "odd": ~even, "none": torch.zeros_like(even)}
    found = tuned_rows(["sgd"], starts, Training(2), parts, cell="a")
    assert {row["cell"] for row in found} == {"a"}
    for row in found:
        assert (row["even"] + row["odd"]) / 2 == pytest.approx(row["loss"])
        assert row["none"] is None


def test_heterogeneous_mlp(tmp_path: Path) -> None:
    """Scale-free distances that follow the contrast would mean that it changes more than scales."""
    folder = run_study("heterogeneous_mlp", "tiny", 0, tmp_path).folder
    settings = heterogeneous_mlp.SCALES["tiny"]
    gaps = table(folder, "gaps")
    assert [(row["sharpest"], row["contrast"]) for row in gaps] == [("last", "1.0"), ("last", "8.0"), ("first", "8.0")]
    assert {(row["optimizer"]) for row in table(folder, "tuned")} == {"sgd", "adam"}
    assert {row["seed"] for row in table(folder, "runs")} == {row["seed"] for row in table(folder, "runs")[:2]}
    assert len({row["seed"] for row in table(folder, "runs")}) == settings.seeds

    def distances(measure: str) -> list[float]:
        chosen = [row for row in table(folder, "heterogeneity") if (row["measure"], row["sigma"]) == (measure, "1%")]
        return [float(row["value"]) for row in chosen]

    scale_free, raw = distances("scale_free_js_distance"), distances("js_distance")
    assert scale_free == pytest.approx([scale_free[0]] * 3, rel=0.02)
    assert raw[1] > 1.5 * raw[0]
    assert (folder / "contrasts.png").stat().st_size > 0


def test_imbalance(tmp_path: Path) -> None:
    folder = run_study("imbalance", "tiny", 0, tmp_path).folder
    tuned, gaps = table(folder, "tuned"), table(folder, "gaps")
    assert len(tuned) == 2 * 2 * 3
    whole = [row for row in gaps if row["group"] == "all"]
    assert len(whole) == 2 * 2 * 2
    for row in whole:
        same = {key: row[key] for key in ("model", "batch", "exponent")}
        by_rule = {
            found["optimizer"]: float(found["value"]) for found in tuned if {key: found[key] for key in same} == same
        }
        assert float(row["value"]) == pytest.approx(by_rule[row["optimizer"]] - by_rule["adam"])
        assert (float(row["change"]) == 0) == (row["exponent"] == "0.0")
    assert (folder / "imbalance.png").stat().st_size > 0


def test_causes(tmp_path: Path) -> None:
    """The effects must be those of the cells that the table shows."""
    folder = run_study("causes", "tiny", 0, tmp_path).folder
    cells = {(row["noise"], row["contrast"], row["exponent"]): float(row["value"]) for row in table(folder, "cells")}
    assert len(cells) == 3 * 2 * 2
    found = {row["effect"]: float(row["value"]) for row in table(folder, "effects")}
    assert len(found) == 4 + 5 + 2
    tail = [cells["alpha_stable", *rest] - cells["gaussian", *rest] for _, *rest in cells][:4]
    assert found["heavy tail"] == pytest.approx(sum(tail) / 4)
    large = [value for (_, contrast, _), value in cells.items() if contrast != "1.0"]
    assert found["heterogeneity"] == pytest.approx((2 * sum(large) - sum(cells.values())) / 6)
    assert (folder / "causes.png").stat().st_size > 0


def test_an_interrupted_study_goes_on_with_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Row] = []
    train = causes._train

    def interrupted(settings: causes.Causes, cell: Row, seed: int) -> list[Row]:
        if len(trained) == 5:
            raise KeyboardInterrupt
        trained.append(cell)
        return train(settings, cell, seed)

    monkeypatch.setattr(causes, "_train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study("causes", "tiny", 0, tmp_path)
    monkeypatch.setattr(causes, "_train", lambda *given: trained.append(given[1]) or train(*given))
    resumed = run_study("causes", "tiny", 0, tmp_path).folder
    assert len(trained) == 12
    fresh = run_study("causes", "tiny", 0, tmp_path / "fresh").folder
    assert (resumed / "effects.csv").read_bytes() == (fresh / "effects.csv").read_bytes()
