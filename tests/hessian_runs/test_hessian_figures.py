"""The pictures of curvature, from a run that measured it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from whyadam.configs.load import parse_experiment
from whyadam.errors import UserError
from whyadam.figures.hessian import (
    _draw_density,
    distance_label,
    draw_blocks,
    draw_distances,
    draw_spectra,
    find_hessian,
    short_names,
)
from whyadam.figures.heterogeneity import draw_heterogeneity, heterogeneity_table, mean_distances
from whyadam.hessian.record import HessianRecord
from whyadam.hessian.spectrum import Spectrum
from whyadam.training.run import run_experiment

BLOCKS = ["1.weight", "1.bias", "3.weight", "3.bias"]
NAMES = ["1", "1.bias", "3", "3.bias"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds, measured at steps 0 and 2; the full Hessian of one of them alone."""
    out = tmp_path_factory.mktemp("measured")
    hessian = {"at": [0, 2], "blocks": "default", "tolerance": None, "steps": 3, "probes": 2, "batch_size": 8}
    for seed in (0, 1):
        config = {
            "name": "tiny",
            "seed": seed,
            "model": {"name": "mlp", "hidden": [4]},
            "data": {"name": "mnist5k"},
            "task": {"name": "classification"},
            "optimizer": {"name": "sgd", "lr": 0.1},
            "training": {"steps": 2, "batch_size": 16, "eval_examples": 64},
            "hessian": hessian | {"full": seed == 0, "adam": seed == 0},
        }
        run_experiment(parse_experiment(config, "test"), out)
    return out


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The figures that are drawn, by the name of their file."""
    drawn: dict[str, Any] = {}
    for module in ("hessian", "heterogeneity"):
        monkeypatch.setattr(
            f"whyadam.figures.{module}.save_figure", lambda figure, out: drawn.update({out.name: figure}) or []
        )
    return drawn


def test_pictures_are_written(measured: Path, tmp_path: Path) -> None:
    runs = find_hessian([measured])
    assert [run.steps for run in runs] == [(0, 2), (0, 2)]
    drawn = [
        *draw_spectra(runs[:1], tmp_path / "pictures" / "spectra.png"),
        *draw_blocks(runs, tmp_path / "blocks"),
        *draw_distances(runs, tmp_path / "js"),
    ]
    names = [f"{name}.{end}" for name in ("spectra", "blocks", "js") for end in ("png", "pdf", "svg")]
    assert [path.name for path in drawn] == names
    assert all(path.stat().st_size > 5000 for path in drawn)


def test_every_block_has_its_own_density(measured: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    """Catches panels that show another block, another step or the full Hessian."""
    runs = find_hessian([measured])
    draw_blocks(runs, tmp_path / "b", step=2)
    for part, run in zip(figures["b"].subfigs, runs, strict=True):
        assert "step 2" in part.get_suptitle()
        spectra = HessianRecord(run.path).spectra(2)
        panels = part.axes[:4]
        assert [axes.get_title() for axes in panels] == NAMES
        for axes, block in zip(panels, BLOCKS, strict=True):
            x, y = axes.lines[0].get_data()
            span = spectra[block].largest - spectra[block].smallest
            assert x[0] == pytest.approx(spectra[block].smallest - 0.06 * span)
            assert x[-1] == pytest.approx(spectra[block].largest + 0.06 * span)
            assert np.trapezoid(y, x) == pytest.approx(1, abs=0.02)


def test_the_full_spectrum_of_each_step_is_drawn(measured: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    runs = find_hessian([measured])
    with_full = [run for run in runs if run.experiment.seed == 0]
    draw_spectra(with_full, tmp_path / "s")
    titles = [axes.get_title() for axes in figures["s"].axes]
    assert titles == ["tiny, SGD, step 0", "tiny, SGD, step 2"]
    for axes, step in zip(figures["s"].axes, (0, 2), strict=True):
        full = HessianRecord(with_full[0].path).spectra(step)["full"]
        assert axes.lines[0].get_xdata()[-1] == pytest.approx(full.largest + 0.06 * (full.largest - full.smallest))
    with pytest.raises(UserError, match="no spectrum of the full Hessian; measure it with whyadam hessian --full"):
        draw_spectra(runs, tmp_path / "s")


def test_the_heat_map_shows_the_recorded_distances(measured: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    runs = find_hessian([measured])
    draw_distances(runs, tmp_path / "d", step=2, measure="js_distance", sigma="1%")
    panels = [axes for axes in figures["d"].axes if axes.images]
    for (values, floors), run in zip((panels[:2], panels[2:]), runs, strict=True):
        assert [text.get_text() for text in values.get_yticklabels()] == NAMES
        rows = [row for row in run.distances(2) if (row.measure, row.sigma) == ("js_distance", "1%")]
        assert len(rows) == 6
        for row in rows:
            place = BLOCKS.index(row.block_a), BLOCKS.index(row.block_b)
            assert values.images[0].get_array()[place] == pytest.approx(row.value)
            assert floors.images[0].get_array()[place] == pytest.approx(row.noise_floor)
        assert values.images[0].get_clim() == floors.images[0].get_clim()


def test_heat_maps_share_one_scale_and_say_what_it_is(measured: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    """A scale for each row makes two networks look alike that are not; "sigma 1%" is no name of an axis."""
    draw_distances(find_hessian([measured]), tmp_path / "d")
    panels = [axes for axes in figures["d"].axes if axes.images]
    (bar,) = [axes for axes in figures["d"].axes if not axes.images]
    assert bar.get_ylabel() == "Jensen-Shannon distance (√bits), $\\sigma$ = 1 % of the range"
    highest = max(float(np.ma.filled(axes.images[0].get_array(), 0.0).max()) for axes in panels)
    assert len(panels) == 8
    assert {axes.images[0].get_clim() for axes in panels} == {(0, highest)}
    assert {(axes.get_xlabel(), axes.get_ylabel()) for axes in panels} == {("block", "block")}
    assert panels[0].get_title().startswith("tiny, SGD, seed 0, step 0\nmean distance 0.")


@pytest.mark.parametrize(
    ("measure", "sigma", "label"),
    [
        ("js_distance", "0.00316228", "Jensen-Shannon distance (√bits), $\\sigma$ = 0.00316228"),
        ("js_divergence", "1%", "Jensen-Shannon divergence (bits), $\\sigma$ = 1 % of the range"),
        ("scale_free_sym_kl", "1%", "scale-free symmetric KL divergence (bits), $\\sigma$ = 1 % of the range"),
        ("wasserstein1", "", "Wasserstein-1 distance (in units of λ)"),
        ("scale_free_wasserstein1", "", "scale-free Wasserstein-1 distance"),
        (
            "adam_js_distance",
            "1%",
            "Jensen-Shannon distance (√bits), $\\sigma$ = 1 % of the range, preconditioned by Adam",
        ),
    ],
)
def test_a_distance_is_written_in_words_with_its_unit(measure: str, sigma: str, label: str) -> None:
    assert distance_label(measure, sigma) == label


def test_spectra_have_axes_in_words(measured: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    runs = find_hessian([measured])
    draw_blocks(runs, tmp_path / "b")
    for part in figures["b"].subfigs:
        assert part.get_supxlabel() == "eigenvalue λ of the block"
        assert part.get_supylabel() == "density ($\\sigma$ = 1 % of the range)"
    draw_spectra([run for run in runs if run.experiment.seed == 0], tmp_path / "s")
    for axes in figures["s"].axes:
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("eigenvalue λ", "density ($\\sigma$ = 1 % of the range)")


@pytest.mark.parametrize("size", [10, 10**8])
def test_an_outlier_among_many_eigenvalues_is_seen(size: int) -> None:
    """The axis reached to the outlier, but its peak lay below the lowest density that was shown: an empty axis."""
    from matplotlib.figure import Figure

    nodes = torch.tensor([[-0.1, 0.0, 0.1, 50.0]], dtype=torch.float64)
    weights = torch.tensor([[0.25, 0.5, 0.25 - 1 / size, 1 / size]], dtype=torch.float64)
    axes = Figure().subplots()
    _draw_density(axes, Spectrum(nodes, weights, size))
    curve, marks = axes.lines
    x, y = curve.get_data()
    lowest, highest = axes.get_ylim()
    assert y[np.abs(x - 50) < 0.2].max() > 2 * lowest, "the outlier's peak stands above the axis"
    assert y.max() < highest
    assert list(marks.get_xdata()) == [-0.1, 50.0]
    assert set(marks.get_ydata()) == {lowest}


def test_a_distance_without_smoothing_and_preconditioned_blocks(
    measured: Path, tmp_path: Path, figures: dict[str, Any]
) -> None:
    with_adam = [run for run in find_hessian([measured]) if run.experiment.seed == 0]
    draw_distances(with_adam, tmp_path / "w", measure="wasserstein1", adam=True)
    draw_blocks(with_adam, tmp_path / "a", adam=True)
    assert "preconditioned by Adam" in figures["a"].subfigs[0].get_suptitle()
    (row,) = [
        row
        for row in with_adam[0].distances(0, adam=True)
        if (row.block_a, row.block_b, row.measure) == ("1.weight", "1.bias", "wasserstein1")
    ]
    assert figures["w"].axes[0].images[0].get_array()[0, 1] == pytest.approx(row.value)


def test_mean_distances_of_networks_are_those_of_the_record(
    measured: Path, tmp_path: Path, figures: dict[str, Any]
) -> None:
    """Catches a table or a panel of another step, smoothing or distance, and seeds that are taken for networks."""
    runs = find_hessian([measured])
    distances = mean_distances(runs, "js_distance")
    recorded: dict[tuple[str, int], list[float]] = {}
    for run in runs:
        for step in (0, 2):
            for row in HessianRecord(run.path).model(step):
                if row.measure == "js_distance":
                    recorded.setdefault((row.sigma, step), []).append(row.value)
    assert {(entry.sigma, entry.step): list(entry.values) for entry in distances} == recorded
    _, _, *lines = heterogeneity_table(distances).splitlines()
    assert len(lines) == 4
    assert all(line.split()[2] == "2" for line in lines)
    draw_heterogeneity(distances, "js_distance", tmp_path / "h")
    first, last = figures["h"].axes[:2]
    assert first.get_xlabel() == "mean Jensen-Shannon distance (√bits), $\\sigma$ = 0.00316228"
    for axes, step in ((first, 0), (last, 2)):
        drawn = next(line for line in axes.lines if line.get_marker() == "o").get_xdata()
        assert list(drawn) == recorded[distances[0].sigma, step]
    with pytest.raises(UserError, match="--measure js: there are js_distance, "):
        mean_distances(runs, "js")


def test_what_was_not_measured_is_said(measured: Path, tmp_path: Path) -> None:
    runs = find_hessian([measured])
    with pytest.raises(UserError, match="no curvature of step 1; there are 0, 2"):
        draw_blocks(runs, tmp_path / "b", step=1)
    with pytest.raises(UserError, match=r"no js_distance with sigma '3%'; there are js_distance \(0\.00316228\)"):
        draw_distances(runs, tmp_path / "d", sigma="3%")
    with pytest.raises(UserError, match="no preconditioned blocks of step 0; measure them with -s"):
        draw_blocks([run for run in runs if run.experiment.seed == 1], tmp_path / "b", adam=True)
    with pytest.raises(UserError, match="no curvature measurement here"):
        find_hessian([tmp_path])


def test_short_names_stay_apart() -> None:
    assert short_names(["bert.a.weight", "bert.b.weight.query"]) == ["a", "b.query"]
    assert short_names(["h.0.weight", "h.0.bias"]) == ["0", "0.bias"]
    assert short_names(["a.weight", "a"]) == ["a.weight", "a"]
