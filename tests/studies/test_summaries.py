"""Summaries of the coded studies: which number of which table becomes which row."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from whyadam.studies.run import run_study
from whyadam.studies.summary import SummaryRow, read_summary

ENDS = {"ci_low": 0.9, "ci_high": 1.2}


def summary(study: str, settings: Mapping[str, Any], **tables: Sequence[Mapping[str, Any]]) -> list[SummaryRow]:
    """The rows that a study of these settings makes of these tables."""
    module = import_module(f"whyadam.studies.coded.{study}")
    chosen = module.SCALES["tiny"].model_copy(update=settings)
    return list(module.summary(tables, chosen, partial(SummaryRow.of_interval, study, "quick")))


def by_key(rows: Sequence[SummaryRow]) -> dict[tuple[str, str], SummaryRow]:
    found = {(row.subject, row.quantity): row for row in rows}
    assert len(found) == len(rows), "a row twice"
    return found


def test_clipping_rates() -> None:
    """Powers minus theory's keep their interval; a tenth of the trials have ten coordinates; only the last K counts."""
    key = {"problem": "ten_coordinates", "alpha": 1.5, "rule": "gclip", "statistic": "mean"}
    slope = key | {"value": -0.6, "ci_low": -0.7, "ci_high": -0.5, "theory": -2 / 3, "finite_theory": -0.65}
    errors = [key | {"steps": steps, "value": 1.0} | ENDS for steps in (10, 1000, 100)]
    rows = by_key(summary("clipping_rates", {"trials": 30_000}, slopes=[slope], errors=errors))
    power = rows["ten_coordinates_1.5/gclip", "mean_power"]
    assert (power.value, power.samples, power.scale, power.study) == (-0.6, 3000, "quick", "clipping_rates")
    assert (power.ci_low, power.ci_high) == pytest.approx((-0.7, -0.5), abs=1e-3)
    less = rows["ten_coordinates_1.5/gclip", "mean_power_less_theory"]
    assert less.value == pytest.approx(-0.6 + 2 / 3)
    assert rows["ten_coordinates_1.5/gclip", "final_mean"].value == 1.0
    assert len(rows) == 3


def test_dimension_knows_where_the_best_factor_is_the_smallest() -> None:
    def ratio(thresholds: str, gclip_factor: float) -> dict[str, Any]:
        factors = {"gclip_factor": gclip_factor, "cclip_factor": 0.1}
        return {"alpha": 1.2, "coordinates": 10, "thresholds": thresholds, "trials": 20} | factors

    slopes = [
        {"alpha": 1.2, "thresholds": thresholds, "slope": 0.4, "ci_low": 0.39, "ci_high": 0.41, "theory": 0.5}
        for thresholds in ("published", "best")
    ]
    for smallest, at_edge in ((0.01, True), (0.03, False)):
        ratios = [ratio("published", 1.0), ratio("best", 0.1), ratio("best", smallest)]
        rows = by_key(summary("dimension", {"factors": (0.01, 0.03, 0.1, 1.0)}, slopes=slopes, ratios=ratios))
        best, published = rows["alpha_1.2/best", "power_of_d"], rows["alpha_1.2/published", "power_of_d"]
        assert (best.tried, best.at_edge) == (4, at_edge)
        assert (published.tried, published.at_edge, published.samples) == (None, None, 20)


def test_lower_bound_divides_by_the_bound() -> None:
    key = {"alpha": 1.5, "rule": "gclip"}
    errors = [key | {"steps": steps, "value": 1.0, "bound": 0.5} | ENDS for steps in (10, 100)]
    slopes = [key | {"value": -0.7, "ci_low": -0.71, "ci_high": -0.69, "bound": -0.6}]
    rows = by_key(summary("lower_bound", {"trials": 9_999}, errors=errors, slopes=slopes))
    over = rows["alpha_1.5/gclip", "error_over_bound"]
    assert (over.value, over.ci_low, over.ci_high) == pytest.approx((2.0, 1.8, 2.4), abs=1e-3)
    assert rows["alpha_1.5/gclip", "power_less_bound"].value == pytest.approx(-0.1)


def test_quadratics_has_tuning_and_an_exact_interval_of_the_share() -> None:
    row = {"case": "homogeneous", "method": "cclip", "median": 50.0, "ci_low": 40.0, "ci_high": math.inf}
    iterations = [row | {"settings": 66, "at_edge": at_edge, "method": str(at_edge)} for at_edge in (True, False)]
    constants = [{"case": "homogeneous", "share_of_r_within_bound": 0.9}]
    rows = by_key(summary("quadratics", {"trials": 50}, iterations=iterations, constants=constants))
    assert [rows[f"homogeneous/{at_edge}", "iterations"].at_edge for at_edge in (True, False)] == [True, False]
    assert rows["homogeneous/True", "iterations"].tried == 66
    assert rows["homogeneous/True", "iterations"].ci_high == math.inf
    share = rows["homogeneous", "share_of_r_within_bound"]
    assert share.ci_low == pytest.approx(stats.beta.ppf(0.025, 45, 6))


def test_heterogeneous_mlp_widens_the_interval_of_eight_seeds() -> None:
    tuned = [
        {"sharpest": "last", "contrast": contrast, "optimizer": rule, "rates": rates, "at_edge": edge, "value": 1.0}
        | ENDS
        for contrast, rule, rates, edge in ((1.0, "sgd", 5, False), (32.0, "sgd", 7, True), (32.0, "adam", 5, False))
    ]
    gaps = [{"sharpest": "last", "contrast": contrast, "value": 1.0} | ENDS for contrast in (1.0, 32.0)]
    rows = by_key(summary("heterogeneous_mlp", {"seeds": 8}, tuned=tuned, gaps=gaps))
    assert set(rows) == {
        ("none/sgd", "final_loss"),
        ("last_32/sgd", "final_loss"),
        ("last_32/adam", "final_loss"),
        ("none", "gap"),
        ("last_32", "gap"),
    }
    gap = rows["last_32", "gap"]
    assert (gap.tried, gap.at_edge, gap.samples, gap.unit) == (5, True, 8, "nats")
    assert gap.ci_high == pytest.approx(1.0 + 0.2 * 1.2897, rel=1e-4)
    assert rows["none", "gap"].at_edge is False


def test_imbalance_names_the_rarest_and_the_most_frequent_classes() -> None:
    cell = {"model": "linear", "batch": "full batch", "exponent": 1.0}
    tuned = [cell | {"optimizer": rule, "rates": 9, "at_edge": rule == "signum"} for rule in ("sgd", "adam", "signum")]
    empty: dict[str, Any] = dict.fromkeys(("change", "change_ci_low", "change_ci_high"))
    changed = {"change": 0.5, "change_ci_low": 0.4, "change_ci_high": 0.6}
    gaps = [
        cell | {"optimizer": rule, "group": group, "value": 1.0} | ENDS | (changed if group == "all" else empty)
        for rule in ("sgd", "signum")
        for group in ("all", 0, 1, 3)
    ]
    rows = by_key(summary("imbalance", {"seeds": 6}, tuned=tuned, gaps=gaps))
    subject = "linear_full_batch/s_1/sgd"
    assert {found for found, _ in rows if found.startswith(subject)} == {
        subject,
        f"{subject}/most_frequent",
        f"{subject}/group_1",
        f"{subject}/rarest",
    }
    assert rows[subject, "gap_change"].value == 0.5
    assert rows[subject, "gap"].at_edge is False
    assert rows["linear_full_batch/s_1/signum", "gap"].at_edge is True


def test_causes_has_cells_and_effects() -> None:
    cell = {"noise": "none", "contrast": 16.0, "exponent": 0.0}
    tuned = [cell | {"optimizer": rule, "rates": 6, "at_edge": False} for rule in ("sgd", "adam")]
    effects = [{"effect": "heavy tail x heterogeneity", "value": 1.0} | ENDS]
    cells = [cell | {"value": 1.0} | ENDS]
    rows = by_key(summary("causes", {"seeds": 8}, tuned=tuned, cells=cells, effects=effects))
    assert set(rows) == {("none/contrast_16/exponent_0", "gap"), ("heavy_tail_x_heterogeneity", "effect")}


def test_a_finished_study_has_its_summary_rebuilt_and_is_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is lost or was written by other code is written again; without the parts it stays as it is."""
    folder = run_study("lower_bound", "tiny", 0, tmp_path).folder
    path, tables = folder / "summary.csv", [folder / "errors.csv", folder / "errors.png"]
    rows, content = read_summary(path), path.read_bytes()
    assert {row.subject for row in rows} == {f"alpha_1.5/{rule}" for rule in ("sgd", "gclip", "acclip")}
    assert {row.settings for row in rows} == {folder.name.rpartition("-")[2]}
    assert all(datetime.fromisoformat(row.made).tzinfo for row in rows)
    times = [table.stat().st_mtime_ns for table in tables]
    for damage in (path.unlink, lambda: path.write_text("older columns\n")):
        damage()
        assert run_study("lower_bound", "tiny", 0, tmp_path).was_finished
        assert path.read_bytes() == content
    assert times == [table.stat().st_mtime_ns for table in tables]
    path.write_text("what there is\n")
    shutil.rmtree(folder / "pieces")
    assert run_study("lower_bound", "tiny", 0, tmp_path).was_finished
    assert path.read_text() == "what there is\n"
    assert "summary.csv stays as it is" in capsys.readouterr().err
