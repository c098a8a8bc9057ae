"""Figures of curvature measurements (as Zhang et al. 2024, figures 1 to 3): spectra, blocks, distances of blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..configs.schema import Experiment
from ..errors import UserError
from ..hessian.distances import SCALE_FREE, DistanceRow, distance_matrix, heterogeneity, unit_of
from ..hessian.record import ADAM, FULL, HessianRecord, ModelRow
from ..hessian.spectrum import RELATIVE, Spectrum, density, smoothing_grid
from ..training.run_folder import RunFolder
from .runs import labels
from .style import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure


@dataclass(frozen=True)
class HessianRun:
    """The curvature measurements of one run folder.

    Attributes:
        path: the folder.
        experiment: its config.
        steps: the measured steps, in order.
    """

    path: Path
    experiment: Experiment
    steps: tuple[int, ...]

    def measured_steps(self, step: int | None) -> tuple[int, ...]:
        """The step itself, or all measured ones for None.

        Raises:
            UserError: it was not measured.
        """
        if step is not None and step not in self.steps:
            raise UserError(f"{self.path}: no curvature of step {step}; there are {', '.join(map(str, self.steps))}")
        return self.steps if step is None else (step,)

    def full(self, step: int) -> Spectrum | None:
        """The spectrum of the full Hessian at a measured step; None if it was not measured."""
        return self._record.spectra(step).get(FULL)

    def blocks(self, step: int, *, adam: bool = False) -> dict[str, Spectrum]:
        """The spectra of the blocks at a measured step, by name in the order of the network.

        Args:
            step: which step.
            adam: the blocks preconditioned by Adam.

        Raises:
            UserError: they cannot be read, or were not measured.
        """
        if adam and not self._record.how(step).get("adam"):
            raise UserError(
                f"{self.path}: no preconditioned blocks of step {step}; measure them with -s hessian.adam=true"
            )
        spectra = self._record.spectra(step, adam=adam)
        if len(spectra) > 1:
            spectra.pop(FULL, None)
        return spectra

    def distances(self, step: int, *, adam: bool = False) -> list[DistanceRow]:
        """The distances between the blocks at a measured step; arguments and errors as for ``blocks``."""
        return self._record.distances(step, adam=adam)

    def measures(self, step: int) -> list[ModelRow]:
        """The measures of the whole model at a measured step."""
        return self._record.model(step)

    @property
    def _record(self) -> HessianRecord:
        return HessianRecord(self.path)


def find_hessian(paths: Iterable[Path]) -> list[HessianRun]:
    """The runs with curvature measurements at or below some folders, in order of path.

    Raises:
        UserError: there is none, or its config cannot be read.
    """
    paths = list(paths)
    found = {place.parent for path in paths for place in [*path.glob("hessian"), *path.rglob("hessian")]}
    runs = [
        HessianRun(folder, RunFolder(folder).read_config(), tuple(steps))
        for folder in sorted(found)
        if (steps := HessianRecord(folder).steps())
    ]
    if not runs:
        raise UserError(f"{', '.join(map(str, paths))}: no curvature measurement here; see `whyadam hessian --help`")
    return runs


def moments(runs: Sequence[HessianRun], step: int | None) -> list[tuple[HessianRun, int, str]]:
    """Each run with each of its measured steps, or with ``step`` only, and a title.

    Raises:
        UserError: a run has no measurement of ``step``.
    """
    return [
        (run, measured, f"{name}, step {measured}")
        for run, name in zip(runs, labels(runs), strict=True)
        for measured in run.measured_steps(step)
    ]


def short_names(blocks: Sequence[str]) -> list[str]:
    """Names of blocks without their common prefix and the word weight."""
    parts = [[part for part in name.split(".") if part != "weight"] for name in blocks]
    if len({tuple(name) for name in parts}) < len(blocks):
        parts = [name.split(".") for name in blocks]
    while all(len(name) > 1 for name in parts) and len({name[0] for name in parts}) == 1:
        parts = [name[1:] for name in parts]
    return [".".join(name) for name in parts]


COLOR = "#0072B2"
GRID_POINTS = 1000
DECADES, MOST_DECADES = 7, 12
"""The density is shown down to this many powers of ten below its maximum, or to the peaks of λ_min and λ_max."""

DENSITY = "density ($\\sigma$ = 1 % of the range)"

COLUMNS = 6
PANEL_WIDTH, PANEL_HEIGHT = 2.3, 1.5
"""Of a block's panel, in inches."""


def draw_spectra(runs: Sequence[HessianRun], out: Path) -> list[Path]:
    """Draw the spectrum of the full Hessian: one row per run, one column per measured step.

    Args:
        runs: whose curvature.
        out: path without ending.

    Returns:
        PNG, PDF and SVG.

    Raises:
        UserError: a run has no spectrum of the full Hessian.
    """
    names = labels(runs)
    by_run = [{step: full for step in run.steps if (full := run.full(step)) is not None} for run in runs]
    for run, spectra in zip(runs, by_run, strict=True):
        if not spectra:
            raise UserError(f"{run.path}: no spectrum of the full Hessian; measure it with whyadam hessian --full")
    figure = new_figure(columns=max(map(len, by_run)), rows=len(runs))
    grid = figure.subplots(len(runs), max(map(len, by_run)), squeeze=False)
    for row, spectra, name in zip(grid, by_run, names, strict=True):
        for axes in row[len(spectra) :]:
            axes.set_axis_off()
        for axes, (step, spectrum) in zip(row, spectra.items(), strict=False):
            _draw_density(axes, spectrum)
            axes.set(title=f"{name}, step {step}", xlabel="eigenvalue λ", ylabel=DENSITY)
    return save_figure(figure, out)


def draw_blocks(runs: Sequence[HessianRun], out: Path, step: int | None = None, *, adam: bool = False) -> list[Path]:
    """Draw the spectrum of every block in a small panel of its own, each on its own axis.

    Args:
        runs: whose curvature.
        out: path without ending.
        step: when; all measured steps of each run by default.
        adam: the blocks preconditioned by Adam.

    Returns:
        PNG, PDF and SVG.

    Raises:
        UserError: a run has no measurement of ``step``.
    """
    shown = moments(runs, step)
    by_moment = [run.blocks(measured, adam=adam) for run, measured, _ in shown]
    rows = [ceil(len(spectra) / COLUMNS) for spectra in by_moment]
    figure = new_figure(columns=1)
    figure.set_size_inches(PANEL_WIDTH * COLUMNS, PANEL_HEIGHT * sum(rows) + 0.5 * len(rows))
    parts = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=rows)[:, 0]
    for part, count, spectra, (_, _, name) in zip(parts, rows, by_moment, shown, strict=True):
        part.suptitle(f"{name}{', preconditioned by Adam' if adam else ''}")
        part.supxlabel("eigenvalue λ of the block", fontsize=9)
        part.supylabel(DENSITY, fontsize=9)
        _draw_small_multiples(part, count, spectra)
    return save_figure(figure, out)


def _draw_small_multiples(part: SubFigure, rows: int, spectra: dict[str, Spectrum]) -> None:
    grid = part.subplots(rows, COLUMNS, squeeze=False).flatten()
    for axes in grid[len(spectra) :]:
        axes.set_axis_off()
    for axes, name, spectrum in zip(grid, short_names(list(spectra)), spectra.values(), strict=False):
        _draw_density(axes, spectrum)
        axes.set_title(name, fontsize=7)
        axes.tick_params(labelsize=6)
        axes.locator_params(axis="x", nbins=4)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
        axes.xaxis.get_offset_text().set_fontsize(6)


def _draw_density(axes: Axes, spectrum: Spectrum) -> None:
    """The density on a logarithmic axis, down to where λ_min and λ_max show; marks on the axis where they are."""
    grid = smoothing_grid(spectrum, sigma=RELATIVE, points=GRID_POINTS)
    values = density(spectrum, grid, sigma=RELATIVE).numpy()
    ends = density(spectrum, torch.tensor([spectrum.smallest, spectrum.largest]), sigma=RELATIVE).numpy()
    # An outlier among millions of eigenvalues has a peak of less than a millionth of the highest.
    lowest = values.max() * np.clip(ends.min() / values.max() / 3, 10.0**-MOST_DECADES, 10.0**-DECADES)
    axes.fill_between(grid.numpy(), lowest, np.maximum(values, lowest), color=COLOR, alpha=0.3, linewidth=0)
    axes.plot(grid.numpy(), np.maximum(values, lowest), color=COLOR, linewidth=1)
    axes.plot([spectrum.smallest, spectrum.largest], [lowest, lowest], "|", color="black", markersize=9)
    axes.set(yscale="log", ylim=(lowest, 3 * values.max()))


DISTANCE_WORDS = {
    "js_distance": "Jensen-Shannon distance",
    "js_divergence": "Jensen-Shannon divergence",
    "sym_kl": "symmetric KL divergence",
    "wasserstein1": "Wasserstein-1 distance",
}

INCHES_PER_BLOCK = 0.17
INCHES_BESIDE = 2.2
"""For names and the color bar."""


def draw_distances(
    runs: Sequence[HessianRun],
    out: Path,
    step: int | None = None,
    *,
    measure: str = "js_distance",
    sigma: str | None = None,
    adam: bool = False,
) -> list[Path]:
    """Draw the distances of all pairs of blocks, in the network's order, beside their noise floors.

    One row per measurement; all panels have the same colour scale.

    Args:
        runs: whose curvature.
        out: path without ending.
        step: when; all measured steps of each run by default.
        measure: which distance, as distances.csv spells it.
        sigma: which smoothing, likewise; by default 1 % of the range for a distance that needs one.
        adam: between the blocks preconditioned by Adam.

    Returns:
        PNG, PDF and SVG.

    Raises:
        UserError: a run has no measurement of ``step``, or no such distance.
    """
    shown = moments(runs, step)
    blocks = [list(run.blocks(measured, adam=adam)) for run, measured, _ in shown]
    sides = [max(3.0, INCHES_PER_BLOCK * len(names)) for names in blocks]
    figure = new_figure(columns=1)
    figure.set_size_inches(2 * max(sides) + 2 * INCHES_BESIDE, sum(sides) + INCHES_BESIDE * len(shown))
    grid = figure.subplots(len(shown), 2, squeeze=False, height_ratios=sides)
    images = []
    for panels, names, (run, measured, label) in zip(grid, blocks, shown, strict=True):
        rows = run.distances(measured, adam=adam)
        used = _known_sigma(run, rows, measure, sigma)
        mean = heterogeneity(rows)[measure, used]
        titles = f"{label}\nmean distance {mean.value:.3g}", f"noise floor, mean {mean.noise_floor:.3g}"
        for axes, matrix, title in zip(panels, distance_matrix(rows, names, measure, used), titles, strict=True):
            images.append(axes.imshow(matrix.numpy(), cmap="viridis", interpolation="nearest"))
            axes.set_title(title, fontsize=9)
            axes.set_xticks(range(len(names)), short_names(names), fontsize=6, rotation=90)
            axes.set_yticks(range(len(names)), short_names(names), fontsize=6)
            axes.set(xlabel="block", ylabel="block")
    highest = max(float(np.ma.filled(image.get_array(), 0.0).max()) for image in images)
    for image in images:
        image.set_clim(0, highest or 1.0)
    figure.colorbar(images[0], ax=grid.ravel().tolist(), label=distance_label(measure, used), shrink=0.8)
    return save_figure(figure, out)


def distance_label(measure: str, sigma: str) -> str:
    """A measure as distances.csv and measures.csv spell it, in words, with its unit and smoothing."""
    plain = measure.removeprefix(ADAM)
    unit, words = unit_of(plain), DISTANCE_WORDS[plain.removeprefix(SCALE_FREE)]
    text = f"scale-free {words}" if plain.startswith(SCALE_FREE) else words
    text += f" ({unit})" if unit else ""
    width = f"{sigma.removesuffix('%')} % of the range" if sigma.endswith("%") else sigma
    text += f", $\\sigma$ = {width}" if sigma else ""
    return text + (", preconditioned by Adam" if measure.startswith(ADAM) else "")


def _known_sigma(run: HessianRun, rows: Sequence[DistanceRow], measure: str, sigma: str | None) -> str:
    """The smoothing that is asked for; for None 1 % of the range, or none where the measure has none."""
    known = dict.fromkeys((row.measure, row.sigma) for row in rows)
    if sigma is None:
        sigma = str(RELATIVE) if (measure, str(RELATIVE)) in known else ""
    if (measure, sigma) not in known:
        there_are = ", ".join(f"{name} ({width})" if width else name for name, width in known)
        raise UserError(f"{run.path}: no {measure} with sigma {sigma!r}; there are {there_are}")
    return sigma
