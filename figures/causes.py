"""What separates SGD from Adam: tuned losses, and gaps between them, with intervals over seeds.

Each public function draws tables of one coded study, writes ``out`` (a path without ending) as PNG, PDF and SVG, and
returns these paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from .runs import Rows, different, select
from .style import OPTIMIZER_COLORS, OPTIMIZER_LABELS, OTHER_COLOR, new_figure, plot_band, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
"""For lines that are no optimizers."""

GAP = "final loss of SGD minus Adam's (nats)"


def draw_contrasts(tuned: Rows, gaps: Rows, heterogeneity: Rows, out: Path) -> list[Path]:
    """Tuned losses for each sharpest layer, their gaps, and JS⁰, all against the contrast."""
    figure = new_figure(columns=2, rows=2)
    panels = figure.subplots(2, 2)
    for axes, sharpest in zip(panels[0], ("last", "first"), strict=True):
        chosen = _with_contrast_one(tuned, sharpest)
        for rule in different(chosen, "optimizer"):
            color = OPTIMIZER_COLORS[rule]
            plot_band(axes, select(chosen, optimizer=rule), "contrast", color, OPTIMIZER_LABELS[rule])
        axes.set(yscale="log", ylabel="final training loss (nats)", title=f"sharpest layer: the {sharpest}")
    for sharpest, color in zip(("last", "first"), LINES, strict=False):
        chosen = _with_contrast_one(gaps, sharpest)
        plot_band(panels[1, 0], chosen, "contrast", color, f"sharpest: the {sharpest}")
        _draw_distances(panels[1, 1], _with_contrast_one(heterogeneity, sharpest), color, sharpest)
    panels[1, 0].axhline(0, color=OTHER_COLOR, linewidth=0.8)
    panels[1, 0].set(ylabel=GAP)
    panels[1, 1].set(ylabel="JS⁰ (√bits, 0 to 1)", ylim=(0, 1))
    for axes in panels.flat:
        axes.set_xscale("log", base=2)
        axes.set_xlabel("contrast c; curvatures are up to c⁴ apart")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    return save_figure(figure, out)


def draw_imbalance(gaps: Rows, out: Path) -> list[Path]:
    """Each rule's final loss minus Adam's, a column of panels per problem.

    Above against Zipf's exponent, below by frequency of the class at the largest exponent.
    """
    problems = list(dict.fromkeys((row["model"], row["batch"]) for row in gaps))
    figure = new_figure(columns=len(problems), rows=2)
    panels = figure.subplots(2, len(problems), squeeze=False)
    for (above, below), (model, batch) in zip(panels.T, problems, strict=True):
        chosen = select(gaps, model=model, batch=batch)
        exponent = max(different(chosen, "exponent"))
        by_group = [row for row in select(chosen, exponent=exponent) if row["group"] != "all"]
        for axes, rows, column in ((above, select(chosen, group="all"), "exponent"), (below, by_group, "group")):
            for rule in different(rows, "optimizer"):
                label = f"{OPTIMIZER_LABELS[rule]} minus Adam"
                plot_band(axes, select(rows, optimizer=rule), column, OPTIMIZER_COLORS[rule], label)
            axes.axhline(0, color=OTHER_COLOR, linewidth=0.8)
            axes.set(ylabel="difference of final losses (nats)", xticks=sorted(different(rows, column)))
            axes.grid(alpha=0.3)
            axes.legend(fontsize=7)
        above.set(xlabel="exponent of Zipf's law", title=f"{model}, {batch}")
        below.set(xlabel=f"group of classes, most frequent first (exponent {exponent:g})")
    return save_figure(figure, out)


def draw_causes(cells: Rows, effects: Rows, out: Path) -> list[Path]:
    """The gap in each cell of the design, and the effects of the factors on it."""
    figure = new_figure(columns=2, rows=1, legend_entries=18)
    left, right = figure.subplots(1, 2)
    named = [f"{row['noise']}, c = {row['contrast']:g}, s = {row['exponent']:g}" for row in cells]
    _draw_points(left, named, cells, [OPTIMIZER_COLORS["adam"]] * len(cells))
    left.set(xlabel=GAP, title="cells")
    colors = [LINES[row["effect"].count(" x ")] for row in effects]
    _draw_points(right, [row["effect"] for row in effects], effects, colors)
    right.set(xlabel="change of that difference (nats)", title="effects and interactions")
    return save_figure(figure, out)


def _draw_points(axes: Axes, names: Sequence[str], rows: Rows, colors: Sequence[str]) -> None:
    """A point with its interval for each name, the first on top."""
    axes.axvline(0, color=OTHER_COLOR, linewidth=0.8)
    for place, (row, color) in enumerate(zip(rows, colors, strict=True)):
        axes.plot([row["ci_low"], row["ci_high"]], [place, place], color=color, linewidth=1)
        axes.plot(row["value"], place, "o", markersize=4, color=color)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.grid(alpha=0.3)


def _draw_distances(axes: Axes, rows: Rows, color: str, sharpest: str) -> None:
    """JS⁰ as published, and without scales under the relative smoothing; means over seeds, noise floors dotted."""
    from ..hessian.spectrum import PUBLISHED, RELATIVE

    drawn = [("js_distance", PUBLISHED, "-", "raw"), ("scale_free_js_distance", RELATIVE, "--", "scale-free")]
    for measure, smoothing, style, name in drawn:
        chosen = [row for row in rows if (row["measure"], str(row["sigma"])) == (measure, str(smoothing))]
        contrasts = sorted(different(chosen, "contrast"))
        values, floors = (
            [fmean(row[column] for row in select(chosen, contrast=contrast)) for contrast in contrasts]
            for column in ("value", "noise_floor")
        )
        axes.plot(contrasts, values, "o" + style, color=color, markersize=3, label=f"{name}, sharpest: the {sharpest}")
        axes.plot(contrasts, floors, ":", color=color, linewidth=0.8)


def _with_contrast_one(rows: Rows, sharpest: str) -> Rows:
    """The rows of a sharpest layer, and those at contrast 1, which have none."""
    return [row for row in rows if row["sharpest"] == sharpest or row["contrast"] == 1]
