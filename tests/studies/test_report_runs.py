"""Run folders in a report: which of them are drawn, what their table says, and what could not be drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from whyadam.errors import UserError
from whyadam.figures.runs import Group
from whyadam.studies.report import page as content
from whyadam.studies.report.page import runs_section

METRICS = "step,split,loss,accuracy,exact_match,f1\n0,eval,2.5,0.1,,\n3,train,2.1,,,\n6,eval,2.0,0.3,,\n"


@pytest.fixture
def runs(mlp_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two seeds with a noise measurement, and one run of Adam without."""
    for name, seed, noisy in (("sgd", 0, True), ("sgd", 1, True), ("adam", 0, False)):
        folder = tmp_path / f"{name}-seed{seed}"
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump(mlp_config | {"seed": seed, "optimizer": {"name": name}}))
        (folder / "metrics.csv").write_text(METRICS)
        status = {"state": "done", "device": "cpu", "versions": {"torch": "2.0"}, "git_commit": f"commit {seed}"}
        (folder / "status.json").write_text(json.dumps(status | {"step": 6, "seconds_training": 1.5}))
        if noisy:
            (folder / "noise.csv").write_text("step,value\n0,1.5\n")
    monkeypatch.setattr(content, "draw_losses", lambda groups, out: _draw(out))
    return tmp_path


def _draw(out: Path) -> None:
    out.with_suffix(".svg").write_text("<svg/>")


def test_noise_is_drawn_of_the_first_seed_of_each_setting_that_has_it(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[Path]] = []
    monkeypatch.setattr(content, "find_noise", lambda paths, kind: asked.append(paths))
    monkeypatch.setattr(content, "draw_noise", lambda found, out: _draw(out))
    section = runs_section([runs])
    assert asked == [[runs / "sgd-seed0"]]
    assert [picture.name for picture in section.pictures] == ["loss", "noise"]
    assert section.notes == []


def test_what_cannot_be_drawn_is_said_and_the_rest_is_shown(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(paths: Sequence[Path], kind: str) -> None:
        raise UserError("the gradients have no noise")

    monkeypatch.setattr(content, "find_noise", refuse)
    section = runs_section([runs])
    assert section.notes == ["the gradients have no noise"]
    assert [picture.name for picture in section.pictures] == ["loss"]


def test_curvature_is_drawn_where_it_was_measured(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runs / "adam-seed0" / "hessian").mkdir()
    asked: list[Sequence[Path]] = []

    class Measured:
        steps = (0,)

        def full(self, step: int) -> None:
            """The whole Hessian was not measured."""

    monkeypatch.setattr(content, "find_noise", lambda paths, kind: [])
    monkeypatch.setattr(content, "draw_noise", lambda found, out: None)
    monkeypatch.setattr(content, "find_hessian", lambda paths: [asked.append(paths) or Measured()])
    for name in ("draw_blocks", "draw_distances", "draw_spectra"):
        monkeypatch.setattr(content, name, lambda found, out: _draw(out))
    assert [picture.name for picture in runs_section([runs]).pictures] == ["loss", "blocks", "js"]
    assert asked == [[runs / "adam-seed0"]]


def test_tables_configs_and_provenance_cover_all_runs(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Sequence[Group]] = []
    monkeypatch.setattr(content, "draw_losses", lambda groups, out: drawn.append(groups))
    monkeypatch.setattr(content, "find_noise", lambda paths, kind: [])
    monkeypatch.setattr(content, "draw_noise", lambda found, out: None)
    section = runs_section([runs])
    assert sorted(len(group.runs) for group in drawn[0]) == [1, 2]
    table, evaluations, noise = section.tables
    assert [row[1:3] for row in table.table.rows] == [("done", "6")] * 3
    assert evaluations.table.rows[:2] == [
        (str(runs / "adam-seed0"), "0", "2.5", "0.1", "", ""),
        (str(runs / "adam-seed0"), "6", "2.0", "0.3", "", ""),
    ]
    assert noise.table.rows == [("0", "1.5")]
    assert [name for name, _ in section.configs] == [str(runs / "adam-seed0"), str(runs / "sgd-seed0")]
    assert dict(section.provenance.rows) == {
        "git_commit": "commit 0, commit 1",
        "versions.torch": "2.0",
        "device": "cpu",
        "seeds": "0, 1",
        "seconds": "4.5",
    }
