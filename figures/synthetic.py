"""Synthetic problems: errors under heavy-tailed noise, their powers of K, d and α, and iterations on quadratics.

Each function draws rows of one table of a coded study, writes ``out`` (a path without ending) as PNG, PDF and SVG, and
returns these paths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .runs import Rows, different, select
from .style import OPTIMIZER_COLORS, OPTIMIZER_LABELS, OTHER_COLOR, new_figure, plot_band, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

COLORS = OPTIMIZER_COLORS | {"projected_sgd": OTHER_COLOR}
LABELS = OPTIMIZER_LABELS | {"projected_sgd": "projected SGD"}
PROBLEMS = {
    "symmetric": "symmetric noise",
    "one_sided": "one-sided noise",
    "ten_coordinates": "10 coordinates",
    "non_convex": "non-convex",
}
THRESHOLD_COLORS = {"published": "#0072B2", "best": "#E69F00"}
STATISTICS = {"mean": "mean", "median": "median", "quantile_99": "99 % quantile"}
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
"""Methods on quadratics: label, and whose color."""


def draw_slopes(rows: Rows, out: Path) -> list[Path]:
    """The power of K of each rule's error against α, with intervals, and theory's line for GClip."""
    problems = [problem for problem in PROBLEMS if any(row["problem"] == problem for row in rows)]
    figure, grid = _panels(len(problems), len(STATISTICS))
    for panels, problem in zip(grid, problems, strict=True):
        for axes, statistic in zip(panels, STATISTICS, strict=True):
            chosen = select(rows, problem=problem, statistic=statistic)
            theory = _theory(axes, chosen, "alpha", "theory", label="theory for GClip")
            known = [row for row in chosen if row["finite_theory"] is not None]
            if known:
                _theory(axes, known, "alpha", "finite_theory", linestyle=":", label="at these K")
            _draw_rules(axes, chosen, "alpha")
            axes.set_ylim(min(theory) - 0.5, max(theory) + 0.5)
            axes.set(xlabel=r"tail index $\alpha$ of the noise", ylabel="power of K")
            axes.set_title(f"{PROBLEMS[problem]}: {STATISTICS[statistic]}")
    _legend_of_all(grid)
    return save_figure(figure, out)


def draw_errors(rows: Rows, out: Path) -> list[Path]:
    """Mean, median and 99 % quantile over trials against K under symmetric noise, a row of panels per α."""
    rows = select(rows, problem="symmetric")
    known = different(rows, "alpha")
    alphas = [alpha for alpha in known if alpha in (1.2, 1.5, 1.8)] or known[:3]
    figure, grid = _panels(len(alphas), len(STATISTICS), sharex=True)
    for panels, alpha in zip(grid, alphas, strict=True):
        for axes, statistic in zip(panels, STATISTICS, strict=True):
            chosen = select(rows, alpha=alpha, statistic=statistic)
            _draw_rules(axes, chosen, "steps")
            gclip = select(chosen, rule="gclip")
            last, power = max(gclip, key=lambda row: row["steps"]), -2 * (alpha - 1) / alpha
            line = [row | {"line": last["value"] * (row["steps"] / last["steps"]) ** power} for row in gclip]
            _theory(axes, line, "steps", "line", label=r"$K^{-2(\alpha-1)/\alpha}$")
            axes.set(xscale="log", yscale="log", xlabel="steps K", ylabel=r"$f - f^*$ of the average")
            axes.set_title(rf"{STATISTICS[statistic]}, $\alpha = {alpha:g}$")
    _legend_of_all(grid)
    return save_figure(figure, out)


def draw_lower_bound(rows: Rows, out: Path) -> list[Path]:
    """Mean errors on the hardest coin-flip problem for each K, and the least that any method can have."""
    alphas = different(rows, "alpha")
    figure, grid = _panels(1, len(alphas))
    for axes, alpha in zip(grid[0], alphas, strict=True):
        chosen = select(rows, alpha=alpha)
        _theory(axes, chosen, "steps", "bound", label="least possible")
        _draw_rules(axes, chosen, "steps")
        axes.set(xscale="log", yscale="log", xlabel="gradients K", ylabel="mean error", title=rf"$\alpha = {alpha:g}$")
        axes.legend(fontsize=7)
    return save_figure(figure, out)


def draw_dimensions(rows: Rows, out: Path) -> list[Path]:
    """Error of GClip over that of CClip against d, beside d^(2/α−1)."""
    alphas = different(rows, "alpha")
    figure, grid = _panels(1, len(alphas), sharey=True)
    for axes, alpha in zip(grid[0], alphas, strict=True):
        for thresholds, color in THRESHOLD_COLORS.items():
            chosen = select(rows, alpha=alpha, thresholds=thresholds)
            plot_band(axes, chosen, "coordinates", color, f"{thresholds} thresholds", value="ratio")
        _theory(axes, select(rows, alpha=alpha), "coordinates", "predicted", label=r"$d^{2/\alpha-1}$")
        axes.set(xscale="log", yscale="log", xlabel="coordinates d", title=rf"$\alpha = {alpha:g}$")
        axes.set_ylabel("error of GClip / error of CClip")
        axes.legend(fontsize=7)
    return save_figure(figure, out)


def draw_iterations(rows: Rows, out: Path) -> list[Path]:
    """Median iterations on quadratics with their interval, over the range of 80 % of the trials: a panel per case.

    A thin line that ends at the right edge means that 10 % of the trials or more never reached the tolerance.
    """
    cases = different(rows, "case")
    figure, grid = _panels(1, len(cases), sharex=True, sharey=True)
    figure.set_size_inches(2.6 + 2.4 * len(cases), 3.6)
    edge = 3 * max((row["quantile_90"] for row in rows if math.isfinite(row["quantile_90"])), default=1)
    names = ("quantile_10", "quantile_90", "ci_low", "ci_high", "median")
    for axes, case in zip(grid[0], cases, strict=True):
        for row in select(rows, case=case):
            color, place = OPTIMIZER_COLORS[METHODS[row["method"]][1]], list(METHODS).index(row["method"])
            low, high, ci_low, ci_high, median = (min(row[name], edge) for name in names)
            axes.plot([low, high], [place, place], color=color, linewidth=1)
            axes.plot([ci_low, ci_high], [place, place], color=color, linewidth=4)
            axes.plot(median, place, "o", markersize=5, color=color)
        axes.set(xscale="log", xlabel="iterations", title=case, xlim=(None, edge))
        axes.axhline(5.5, color="black", linewidth=0.6, linestyle=":")
        axes.grid(visible=False, axis="y")
    grid[0, 0].set_yticks(range(len(METHODS)), [label for label, _ in METHODS.values()])
    grid[0, 0].invert_yaxis()
    return save_figure(figure, out)


def _panels(rows: int, columns: int, **shared: Any) -> tuple[Figure, NDArray]:
    """A figure of small panels with grid lines."""
    figure = new_figure(columns)
    figure.set_size_inches(3.4 * columns, 2.7 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, **shared)
    for axes in panels.flat:
        axes.grid(alpha=0.3)
    return figure, panels


def _legend_of_all(grid: NDArray) -> None:
    """One legend in the first panel, of what any panel shows."""
    shown: dict[str, Any] = {}
    for axes in grid.flat:
        handles, labels = axes.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    grid[0, 0].legend(list(shown.values()), list(shown), fontsize=7)


def _draw_rules(axes: Axes, rows: Rows, column: str) -> None:
    for rule in different(rows, "rule"):
        plot_band(axes, select(rows, rule=rule), column, COLORS[rule], LABELS[rule])


def _theory(axes: Axes, rows: Rows, x: str, y: str, linestyle: str = "--", **style: Any) -> Sequence[float]:
    """A black line of one column against another; its values."""
    xs, ys = zip(*sorted({(row[x], row[y]) for row in rows}), strict=True)
    axes.plot(xs, ys, color="black", linestyle=linestyle, linewidth=1, **style)
    return ys
