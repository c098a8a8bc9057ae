"""The pictures of curvature (Zhang et al. 2024, figures 1 to 3): spectra of the whole Hessian and of its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from ..hessian.smoothing import RELATIVE, density, smoothing_grid
from .hessian_runs import HessianRun, moments, short_names
from .runs import labels
from .style import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

    from ..hessian.spectrum import Spectrum

COLOR = "#0072B2"
GRID_POINTS = 1000
DECADES = 7
"""Of the density, so many powers of ten below its maximum are shown."""

COLUMNS = 6
PANEL_WIDTH, PANEL_HEIGHT = 2.3, 1.5
"""Of a block's panel, in inches."""


def draw_spectra(runs: Sequence[HessianRun], out: Path) -> list[Path]:
    """Draw the spectrum of the whole Hessian: a row a run, a column a measured step.

    Args:
        runs: whose curvature.
        out: path without ending.

    Returns:
        PNG, PDF and SVG.

    Raises:
        UserError: a run has no spectrum of the whole Hessian.
    """
    names = labels(runs)
    by_run = [{step: full for step in run.steps if (full := run.full(step)) is not None} for run in runs]
    for run, spectra in zip(runs, by_run, strict=True):
        if not spectra:
            raise UserError(f"{run.path}: no spectrum of the whole Hessian; measure it with whyadam hessian --full")
    figure = new_figure(columns=max(map(len, by_run)), rows=len(runs))
    grid = figure.subplots(len(runs), max(map(len, by_run)), squeeze=False)
    for row, spectra, name in zip(grid, by_run, names, strict=True):
        for axes in row[len(spectra) :]:
            axes.set_axis_off()
        for axes, (step, spectrum) in zip(row, spectra.items(), strict=False):
            _draw_density(axes, spectrum)
            axes.set(title=f"{name}, step {step}", xlabel="eigenvalue", ylabel="density")
    return save_figure(figure, out)


def draw_blocks(runs: Sequence[HessianRun], out: Path, step: int | None = None, *, adam: bool = False) -> list[Path]:
    """Draw the spectrum of every block in a small panel of its own, each on its own axis.

    Args:
        runs: whose curvature.
        out: path without ending.
        step: when; all measured steps of each run by default.
        adam: the blocks as Adam's preconditioner makes them.

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
        part.suptitle(f"{name}{', preconditioned by Adam' if adam else ''}: density of eigenvalues")
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
    """The density smoothed with one per cent of the range, on a logarithmic axis."""
    grid = smoothing_grid(spectrum, sigma=RELATIVE, points=GRID_POINTS)
    values = density(spectrum, grid, sigma=RELATIVE).numpy()
    lowest = values.max() * 10.0**-DECADES
    axes.fill_between(grid.numpy(), lowest, np.maximum(values, lowest), color=COLOR, alpha=0.3, linewidth=0)
    axes.plot(grid.numpy(), np.maximum(values, lowest), color=COLOR, linewidth=1)
    axes.set(yscale="log", ylim=(lowest, 3 * values.max()))
