"""Loss pictures and the table, from run folders written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from whyadam.configs.load import dump_experiment, parse_experiment
from whyadam.errors import UserError
from whyadam.figures.loss import draw_losses, loss_table
from whyadam.figures.runs import find_runs, group_by_setting
from whyadam.training.metrics import MetricsFile, MetricsRow
from whyadam.training.run_folder import RunFolder


def write_run(config: dict[str, Any], out: Path, losses: list[float], state: str = "done") -> None:
    """A run folder with an evaluation row a step."""
    folder = RunFolder.of(parse_experiment(config, "test"), out)
    folder.path.mkdir(parents=True)
    folder.config.write_text(dump_experiment(parse_experiment(config, "test")))
    with MetricsFile(folder.metrics, keep_until=None) as metrics:
        for step, loss in enumerate(losses):
            for split in ("train", "eval"):
                metrics.append(MetricsRow(step=step, epoch=0.0, examples=0, split=split, loss=loss, seconds=0.0))
    status = {"state": state, "step": len(losses) - 1, "last_eval_loss": losses[-1], "best_eval_loss": min(losses)}
    (folder.path / "status.json").write_text(json.dumps(status))


@pytest.fixture
def runs(mlp_config: dict[str, Any], tmp_path: Path) -> Path:
    """SGD with two seeds, Adam with one that diverged."""
    write_run(mlp_config | {"seed": 0}, tmp_path, [3.0, 2.0, 1.0])
    write_run(mlp_config | {"seed": 1}, tmp_path, [3.0, 2.5, 2.0])
    write_run(mlp_config | {"optimizer": {"name": "adam", "lr": 1e-3}}, tmp_path, [3.0, 0.5], state="diverged")
    return tmp_path


def test_seeds_of_one_setting_are_one_group(runs: Path) -> None:
    groups = {group.optimizer: group for group in group_by_setting(find_runs([runs]))}
    assert {name: len(group.runs) for name, group in groups.items()} == {"sgd": 2, "adam": 1}
    assert groups["sgd"].runs[0].curve("eval") == ([0, 1, 2], [3.0, 2.0, 1.0])


def test_a_run_given_twice_counts_once(runs: Path) -> None:
    assert len(find_runs([runs, next(runs.rglob("metrics.csv")).parent])) == 3


def test_the_table_has_means_with_ranges_and_puts_a_diverged_run_last(runs: Path) -> None:
    lines = loss_table(group_by_setting(find_runs([runs]))).splitlines()
    assert "1.500 (1.000 to 2.000)" in lines[2]
    assert lines[3].split()[:4] == ["adam", "0.001", "1", "diverged"]


def test_the_picture_shows_median_and_range_up_to_where_all_seeds_have_values(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, tuple[list[float], list[float]]] = {}

    def keep(figure: Any, out: Path) -> list[Path]:
        evaluation = figure.axes[1]
        for line in evaluation.lines:
            drawn[str(line.get_label())] = (list(line.get_xdata()), list(line.get_ydata()))
        drawn["band"] = ([], sorted(set(evaluation.collections[1].get_paths()[0].vertices[:, 1].tolist())))
        return [out]

    monkeypatch.setattr("whyadam.figures.loss.save_figure", keep)
    draw_losses(group_by_setting(find_runs([runs])), runs / "loss")
    assert drawn["SGD"] == ([0, 1, 2], [3.0, 2.25, 1.5])
    assert drawn["band"] == ([], [1.0, 2.0, 2.5, 3.0])
    assert drawn["Adam"] == ([0, 1], [3.0, 0.5])


def test_png_pdf_and_svg_are_written_and_the_svg_is_the_same_again(runs: Path) -> None:
    groups = group_by_setting(find_runs([runs]))
    paths = draw_losses(groups, runs / "pictures" / "loss")
    assert [path.name for path in paths] == ["loss.png", "loss.pdf", "loss.svg"]
    assert paths[0].read_bytes()[:4] == b"\x89PNG"
    assert paths[1].read_bytes()[:4] == b"%PDF"
    assert paths[2].read_bytes()[:5] == b"<?xml"
    again = draw_losses(groups, runs / "pictures" / "again.svg")
    assert [path.name for path in again] == ["again.png", "again.pdf", "again.svg"]
    assert again[2].read_bytes() == paths[2].read_bytes()


def test_a_broken_status_is_said_with_its_file(runs: Path) -> None:
    status = next(runs.rglob("status.json"))
    status.write_text("{")
    with pytest.raises(UserError, match=r"status\.json"):
        find_runs([runs])
