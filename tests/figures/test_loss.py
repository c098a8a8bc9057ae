"""Loss pictures and the table, from run folders written by hand."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
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


def test_a_diverged_seed_is_a_word_in_the_table_and_no_number(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    """A last loss of 2e10, averaged with that of the other seed; a diverged group above one that ended."""
    write_run(mlp_config | {"seed": 0}, tmp_path, [3.0, 1.0])
    write_run(mlp_config | {"seed": 1}, tmp_path, [3.0, 0.5, 2e10], state="diverged")
    write_run(mlp_config | {"optimizer": {"name": "adam", "lr": 1e-3}}, tmp_path, [3.0, 2.9])
    _, _, adam, sgd = loss_table(group_by_setting(find_runs([tmp_path]))).splitlines()
    assert adam.startswith("adam")
    assert "e+" not in sgd
    assert "20000000000" not in sgd
    assert sgd.count("diverged (1 of 2)") == 3, "the state and both final losses"
    assert "  1.000, diverged (1 of 2)  " in sgd
    assert "0.750 (0.500 to 1.000)" in sgd, "the best losses along the way are numbers"


def test_an_unfinished_seed_is_left_out_of_the_table_and_said(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    for seed, last in ((0, 1.0), (1, 2.0)):
        write_run(mlp_config | {"seed": seed}, tmp_path, [3.0, 2.0, last])
    write_run(mlp_config | {"seed": 2}, tmp_path, [3.0, 2.8], state="interrupted")
    line = loss_table(group_by_setting(find_runs([tmp_path]))).splitlines()[2]
    assert "  interrupted (1 of 3)  " in line
    assert "1.500 (1.000 to 2.000)" in line


@dataclass
class Drawn:
    """The evaluation panel of a loss picture."""

    lines: dict[str, tuple[list[float], list[float]]]
    crosses: list[tuple[float, float]]
    band: list[float]
    limits: list[tuple[float, float]]
    title: str


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Drawn]:
    """Draws the runs of the folder; any warning of matplotlib is an error."""

    def read(figure: Any, out: Path) -> list[Path]:
        figures.append(figure)
        return [out]

    figures: list[Any] = []

    def drawn() -> Drawn:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            draw_losses(group_by_setting(find_runs([tmp_path])), tmp_path / "loss")
            figures[-1].canvas.draw()
        panel = figures[-1].axes[1]
        points = [(str(line.get_label()), list(line.get_xdata()), list(line.get_ydata())) for line in panel.lines]
        paths = panel.collections[-1].get_paths()
        return Drawn(
            {label: (x, y) for label, x, y in points if not label.startswith("_")},
            [(x[0], y[0]) for label, x, y in points if label.startswith("_")],
            sorted(set(paths[0].vertices[:, 1].tolist())) if paths else [],
            [axes.get_ylim() for axes in figures[-1].axes],
            figures[-1].get_suptitle(),
        )

    monkeypatch.setattr("whyadam.figures.loss.save_figure", read)
    return drawn


def test_the_picture_shows_median_and_range_over_seeds(runs: Path, draw: Callable[[], Drawn]) -> None:
    found = draw()
    assert found.lines == {"SGD": ([0, 1, 2], [3.0, 2.25, 1.5]), "Adam": ([0, 1], [3.0, 0.5])}
    assert found.band == [1.0, 2.0, 2.5, 3.0]
    assert found.crosses == [(1, 0.5)]
    assert found.title == "tiny (median and range over 1 to 2 seeds)"


@pytest.mark.parametrize("state", ["interrupted", "running", "failed"])
def test_an_unfinished_seed_does_not_cut_the_curve(
    state: str, mlp_config: dict[str, Any], tmp_path: Path, draw: Callable[[], Drawn]
) -> None:
    """The median over the finished seeds to the end, and the legend tells how many there are."""
    for seed, last in ((0, 1.0), (1, 2.0)):
        write_run(mlp_config | {"seed": seed}, tmp_path, [3.0, 2.0, last])
    write_run(mlp_config | {"seed": 2}, tmp_path, [3.0, 0.1], state=state)
    found = draw()
    assert found.lines == {"SGD, 2 of 3 seeds": ([0, 1, 2], [3.0, 2.0, 1.5])}
    assert found.title == "tiny (median and range over 2 seeds)"
    assert found.crosses == []


def test_of_unfinished_seeds_alone_those_that_got_furthest_are_drawn(
    mlp_config: dict[str, Any], tmp_path: Path, draw: Callable[[], Drawn]
) -> None:
    write_run(mlp_config | {"seed": 0}, tmp_path, [3.0], state="running")
    write_run(mlp_config | {"seed": 1}, tmp_path, [3.0, 2.0, 1.0], state="interrupted")
    write_run(mlp_config | {"seed": 2}, tmp_path, [3.0, 2.5, 2.0], state="running")
    assert draw().lines == {"SGD, 2 of 3 seeds": ([0, 1, 2], [3.0, 2.25, 1.5])}


def test_a_diverged_seed_counts_as_infinite_from_its_end_on(
    mlp_config: dict[str, Any], tmp_path: Path, draw: Callable[[], Drawn]
) -> None:
    """One diverged seed of three does not cut the median; the band goes to the upper end of the axis."""
    write_run(mlp_config | {"seed": 0}, tmp_path, [3.0, 2.0, 1.0])
    write_run(mlp_config | {"seed": 1}, tmp_path, [3.0, 2.5, 2.0])
    write_run(mlp_config | {"seed": 2}, tmp_path, [3.0, 1e9], state="diverged")
    found = draw()
    assert found.lines == {"SGD": ([0, 1, 2], [3.0, 2.5, 2.0])}
    assert found.band == [1.0, 2.0, 3.0, 1e9]
    assert found.crosses == [(1, 3.0)]
    assert found.limits[1] == pytest.approx((0.9, 3.1))


@pytest.mark.parametrize(
    "curves",
    [
        [[2.4, 80.0, 7.0], [2.4, 2.6, 2.5]],
        [[2.4, 2.6]],
        [[2.4, 2e5, 1e10]],
        [[2.4, 2.4]],
        [[0.0, 0.0]],
        [[2.4]],
        [[-3.0, -2.0, 7.0]],
        [[2.4, 2.39, 4.0]],
    ],
)
def test_larger_losses_are_higher_up_whatever_happened(
    curves: list[list[float]], mlp_config: dict[str, Any], tmp_path: Path, draw: Callable[[], Drawn]
) -> None:
    """All losses above that of the start, all equal, none finite: the axis must not be upside down, nor warn."""
    for seed, losses in enumerate(curves):
        write_run(mlp_config | {"optimizer": {"name": "sgd", "lr": 10.0**seed}}, tmp_path, losses)
    for low, high in draw().limits:
        assert low < high
        assert low <= min((loss for losses in curves for loss in losses if math.isfinite(loss)), default=low)


def test_a_run_that_explodes_does_not_flatten_the_others(
    mlp_config: dict[str, Any], tmp_path: Path, draw: Callable[[], Drawn]
) -> None:
    write_run(mlp_config, tmp_path, [2.0, 1.0])
    write_run(mlp_config | {"optimizer": {"name": "adam", "lr": 1e-3}}, tmp_path, [2.0, 1e10])
    assert draw().limits == [pytest.approx((0.95, 2.05))] * 2


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
