"""The tail index of each layer beside its Gaussian control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .noise_runs import NoiseRun
from .noise_style import GAUSSIAN, VERDICT_COLORS, use_logarithmic_x

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TAIL_INDEX = "across_iterations/norm/hill_0.2"
LARGEST_INDEX = 50.0
"""Larger ones, which may be infinite, are drawn here."""

LEGEND_ROWS = 3
INCHES_PER_ROW = 0.19


def layers_height(run: NoiseRun, step: int) -> float:
    """Height in inches that the names of all layers need."""
    return 1.2 + INCHES_PER_ROW * (len(run.rows(step, TAIL_INDEX)) + LEGEND_ROWS)


def draw_layers(panels: Sequence[Axes], run: NoiseRun, step: int) -> None:
    """Hill's index of each layer's norms with its interval, over the range of its surrogates; color is the verdict."""
    (axes,) = panels
    rows = run.rows(step, TAIL_INDEX)
    verdicts = {scope: row["verdict"] for scope, row in run.rows(step, "overall").items()}
    for place, (scope, row) in enumerate(rows.items()):
        value, low, high, control_low, control_high = (
            min(float(row[column] or row["value"]), LARGEST_INDEX)
            for column in ("value", "ci_low", "ci_high", "control_low", "control_high")
        )
        label = "95 % of the surrogates" if place == 0 else None
        axes.barh(place, control_high - control_low, left=control_low, color=GAUSSIAN, alpha=0.25, label=label)
        axes.plot([low, high], [place, place], color=VERDICT_COLORS[verdicts[scope]], linewidth=1)
        axes.plot(value, place, "o", markersize=4, color=VERDICT_COLORS[verdicts[scope]])
    for verdict, color in VERDICT_COLORS.items():
        if verdict in verdicts.values():
            axes.plot([], [], "o-", markersize=4, linewidth=1, color=color, label=verdict.replace("_", " "))
    axes.axvline(2, color="black", linewidth=0.8, linestyle="--", label="infinite variance below")
    axes.set_yticks(range(len(rows)), list(rows), fontsize=7)
    axes.set_ylim(len(rows) - 1 + LEGEND_ROWS, -1)
    axes.set_xlabel("tail index of the noise norms (Hill)")
    use_logarithmic_x(axes)
    axes.legend(loc="lower right", ncols=2, fontsize=7)
