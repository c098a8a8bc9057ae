"""The pictures of noise, from a run that measured it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from whyadam.configs.load import parse_experiment
from whyadam.errors import UserError
from whyadam.figures.noise import PICTURES, SCATTER, draw_noise, find_noise, noise_table
from whyadam.figures.runs import labels
from whyadam.training.run import run_experiment


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds, measured at steps 0 and 2; one of them with single examples."""
    out = tmp_path_factory.mktemp("measured")
    for seed, examples in ((0, 8), (1, 0)):
        config = {
            "name": "tiny",
            "seed": seed,
            "model": {"name": "mlp", "hidden": []},
            "data": {"name": "mnist5k"},
            "task": {"name": "classification"},
            "optimizer": {"name": "sgd", "lr": 0.1},
            "training": {"steps": 2, "batch_size": 16, "eval_examples": 64},
            "noise": {"every": 2, "batches": 12, "reference": 4, "coordinates": 20, "examples": examples},
        }
        run_experiment(parse_experiment(config, "test"), out)
    return out


def test_runs_are_found_once_and_named_by_what_differs(measured: Path) -> None:
    runs = find_noise([measured, next(measured.rglob("noise.csv")).parent], "batch")
    assert [run.steps for run in runs] == [(0, 2), (0, 2)]
    assert sorted(labels(runs)) == ["tiny, SGD, seed 0", "tiny, SGD, seed 1"]
    assert labels(runs[:1]) == ["tiny, SGD"]


def test_the_table_says_what_the_record_holds(measured: Path) -> None:
    """Catches a line that shows another step, another scope or another statistic than its column says."""
    runs = find_noise([measured], "batch")
    header, rule, *lines = noise_table(runs).splitlines()
    assert len(lines) == 4
    assert len(rule) == max(map(len, [header, *lines]))
    index = runs[1].rows(2, "norms/tail_index")["all"]
    line = next(line for line in lines if line.startswith(labels(runs)[1]) and line.split("  ")[1].strip() == "2")
    cells = dict(zip(re.split(r"  +", header), re.split(r"  +", line), strict=False))
    for family in ("norms", "coordinates"):
        row = runs[1].rows(2, family)["all"]
        assert cells[family] == row["verdict"]
        assert f"{float(row['value']):.3f}" in line
    assert cells["sd/mean"] == f"{float(runs[1].rows(2, SCATTER)['all']['value']):.1%}"
    assert f"{float(index['value']):.1f} ({float(index['ci_low']):.1f} to {float(index['ci_high']):.1f})" in line
    assert f"{float(runs[1].rows(2, 'noise_scale')['all']['value']):.3g}" in line


def test_all_pictures_are_written(measured: Path, tmp_path: Path) -> None:
    paths = draw_noise(find_noise([measured], "batch")[:1], tmp_path / "pictures" / "noise.png")
    assert [path.name for path in paths] == [
        f"noise-{name}.{end}" for name in PICTURES for end in ("png", "pdf", "svg")
    ]
    assert all(path.stat().st_size > 5000 for path in paths)


def test_the_panels_show_the_measured_samples(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches axes that show another run, another step, or another scope than they say."""
    figures: dict[str, Any] = {}
    monkeypatch.setattr(
        "whyadam.figures.noise.save_figure", lambda figure, out: figures.update({out.name: figure}) or []
    )
    runs = find_noise([measured], "batch")
    draw_noise(runs, tmp_path / "n", step=2)
    for column, run in enumerate(runs):
        samples = run.samples(2)
        with np.load(run.path / "noise" / "step_000002.npz") as file:
            np.testing.assert_array_equal(samples.norms, file["batch_norms"][:, -1])
        histogram = figures["n-histogram"].axes[column]
        assert histogram.get_title() == f"{labels(runs)[column]}, step 2"
        heights = np.array([bar.get_height() for bar in histogram.patches])
        assert heights.sum() == pytest.approx(1)
        edges = [bar.get_x() for bar in histogram.patches] + [histogram.patches[-1].get_x() + 1]
        np.testing.assert_allclose(heights * 12, np.histogram(samples.norms, edges)[0], atol=1e-9)
        measured_dots = figures["n-tail"].axes[column].lines[1]
        np.testing.assert_array_equal(measured_dots.get_ydata(), np.sort(samples.sketch_norms))
        variances = figures["n-variance"].axes[column].lines
        last = [line.get_ydata()[-1] for line in variances if len(line.get_ydata())]
        np.testing.assert_allclose(last, 1)
        assert len(last) == 20
        layers = [text.get_text() for text in figures["n-layers"].axes[column].get_yticklabels()]
        assert layers == list(run.rows(2, "norms/tail_index")) == ["1.weight", "1.bias", "all"]
        below = figures["n-layers"].axes[len(runs) + column]
        assert "coordinates" in below.get_xlabel()
        (shown,) = [
            line.get_xdata()[0] for line in below.lines if list(line.get_ydata()) == [2] and line.get_marker() == "o"
        ]
        assert shown == pytest.approx(min(50, float(run.rows(2, "coordinates/tail_index")["all"]["value"])))
        survival = figures["n-tail"].axes[len(runs) + column].lines[-1]
        np.testing.assert_array_equal(survival.get_xdata(), np.sort(samples.sketch_norms))
        steps = [text.get_text() for text in figures["n-evolution"].axes[column].get_yticklabels()]
        assert steps == ["step 0", "step 2"]


def test_an_older_folder_is_drawn_by_its_one_verdict(measured: Path, tmp_path: Path) -> None:
    """Its rows have one verdict on all statistics together, no family, and no standard deviation of the norms."""
    source = find_noise([measured], "batch")[0].path
    folder = tmp_path / source.name
    shutil.copytree(source, folder)
    header, *lines = (folder / "noise.csv").read_text().splitlines()
    families = ("norms", "projections", "coordinates", "across_coordinates")
    kept = [line for line in lines if not line.split(",")[2].startswith(families) and "sd_over_mean" not in line]
    kept += [
        f"{step},{scope},overall,0.00833333333,,,,,heavy,12,16,train"
        for step in (0, 2)
        for scope in ("1.weight", "1.bias", "all")
    ]
    kept.sort(key=lambda line: int(line.split(",")[0]))
    (folder / "noise.csv").write_text("\n".join([header, *kept, ""]))
    runs = find_noise([folder], "batch")
    assert "heavy (all together)" in noise_table(runs)
    assert len(draw_noise(runs, tmp_path / "old")) == 3 * len(PICTURES)


def test_single_examples_are_drawn_where_there_are_any(measured: Path, tmp_path: Path) -> None:
    by_seed = {run.experiment.seed: [run] for run in find_noise([measured], "example")}
    with_examples, without = by_seed[0], by_seed[1]
    assert len(with_examples[0].samples(0).norms) == 8
    with pytest.raises(UserError, match=r"no single-example gradients of step 2; set noise\.examples"):
        draw_noise(without, tmp_path / "n")


def test_what_was_not_measured_is_said(measured: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no noise of step 1; there are 0, 2"):
        draw_noise(find_noise([measured], "batch"), tmp_path / "n", step=1)
    with pytest.raises(UserError, match="no noise measurement here"):
        find_noise([tmp_path], "batch")
