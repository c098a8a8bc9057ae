"""Heat maps: how far apart the spectra of the blocks are, beside how far apart noise alone would put them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from ..hessian.pairs import DistanceRow, distance_matrix, heterogeneity
from ..hessian.smoothing import RELATIVE
from .hessian_runs import HessianRun, moments, short_names
from .style import new_figure, save_figure

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
    """Draw the distances of all pairs of blocks, in the network's order, and their noise floors: a row a measurement.

    Args:
        runs: whose curvature.
        out: path without ending.
        step: when; all measured steps of each run by default.
        measure: which distance, as distances.csv spells it.
        sigma: which smoothing, likewise; by default one per cent of the range for a distance that needs one.
        adam: between the blocks as Adam's preconditioner makes them.

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
    for panels, names, (run, measured, label) in zip(grid, blocks, shown, strict=True):
        rows = run.distances(measured, adam=adam)
        used = _known_sigma(run, rows, measure, sigma)
        mean = heterogeneity(rows)[measure, used]
        matrices = distance_matrix(rows, names, measure, used)
        titles = f"{label}\n{measure}, mean {mean.value:.3g}", f"noise floor, mean {mean.noise_floor:.3g}"
        highest = float(matrices[0].nan_to_num().max())
        for axes, matrix, title in zip(panels, matrices, titles, strict=True):
            image = axes.imshow(matrix.numpy(), vmin=0, vmax=highest, cmap="viridis", interpolation="nearest")
            axes.set_title(title, fontsize=9)
            axes.set_xticks(range(len(names)), short_names(names), fontsize=6, rotation=90)
            axes.set_yticks(range(len(names)), short_names(names), fontsize=6)
        unit = f"sigma {used}" if used else "in the eigenvalues' units"
        figure.colorbar(image, ax=list(panels), label=unit, shrink=0.8)
    return save_figure(figure, out)


def _known_sigma(run: HessianRun, rows: Sequence[DistanceRow], measure: str, sigma: str | None) -> str:
    """The smoothing that is asked for; for None one per cent of the range, or none where the measure has none."""
    known = dict.fromkeys((row.measure, row.sigma) for row in rows)
    if sigma is None:
        sigma = str(RELATIVE) if (measure, str(RELATIVE)) in known else ""
    if (measure, sigma) not in known:
        there_are = ", ".join(f"{name} ({width})" if width else name for name, width in known)
        raise UserError(f"{run.path}: no {measure} with sigma {sigma!r}; there are {there_are}")
    return sigma
