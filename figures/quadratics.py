"""Iterations on quadratics: a panel per case, a line per method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .style import OPTIMIZER_COLORS, new_figure, save_figure

METHODS = {
    "sgd": ("SGD, best lr", "sgd"),
    "sgd_blockwise": ("SGD, best lr per block", "sgd"),
    "adam_frozen": (r"Adam, $\beta_1=0,\ \beta_2=1$", "adam"),
    "adam_without_momentum": (r"Adam, $\beta_1=0,\ \beta_2=0.999$", "adam"),
    "gclip": ("GClip", "gclip"),
    "cclip": ("CClip", "cclip"),
    "sgd_momentum": ("SGD, best lr and momentum", "sgd"),
    "adam": (r"Adam, $\beta_1=0.9,\ \beta_2=0.999$", "adam"),
    "acclip": (r"ACClip, $\beta_1=0.9$", "acclip"),
}
"""Label, and whose color."""


def draw_iterations(rows: Sequence[Mapping[str, Any]], out: Path) -> list[Path]:
    """Draw the median number of iterations, with its interval, over the range of 80 % of the trials.

    A thin line that ends at the right edge means that 10 % of the trials or more never reached the tolerance.
    """
    cases = list(dict.fromkeys(row["case"] for row in rows))
    figure = new_figure(columns=1, rows=1)
    figure.set_size_inches(2.6 + 2.4 * len(cases), 3.6)
    panels = figure.subplots(1, len(cases), sharex=True, sharey=True, squeeze=False)[0]
    finite = [row["quantile_90"] for row in rows if math.isfinite(row["quantile_90"])]
    edge = 3 * max(finite, default=1)
    for axes, case in zip(panels, cases, strict=True):
        for row in (row for row in rows if row["case"] == case):
            _, color = METHODS[row["method"]]
            place = list(METHODS).index(row["method"])
            low, high, median = (min(row[name], edge) for name in ("quantile_10", "quantile_90", "median"))
            color = OPTIMIZER_COLORS[color]
            axes.plot([low, high], [place, place], color=color, linewidth=1)
            axes.plot([min(row["ci_low"], edge), min(row["ci_high"], edge)], [place, place], color=color, linewidth=4)
            axes.plot(median, place, "o", markersize=5, color=color)
        axes.set(xscale="log", xlabel="iterations", title=case, xlim=(None, edge))
        axes.axhline(5.5, color="black", linewidth=0.6, linestyle=":")
        axes.grid(alpha=0.3, axis="x")
    panels[0].set_yticks(range(len(METHODS)), [label for label, _ in METHODS.values()])
    panels[0].invert_yaxis()
    return save_figure(figure, out)
