"""Errors under heavy-tailed noise: slopes against the tail index, and the errors behind them.

Each function draws rows of one table of a coded study, writes ``out`` (a path without ending) as PNG, PDF and SVG, and
returns these paths.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .causes import draw_band
from .runs import Rows, different, select
from .style import OPTIMIZER_COLORS, OPTIMIZER_LABELS, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

COLORS = OPTIMIZER_COLORS | {"projected_sgd": "#7F7F7F"}
LABELS = OPTIMIZER_LABELS | {"projected_sgd": "projected SGD"}
PROBLEMS = {
    "symmetric": "symmetric noise",
    "one_sided": "one-sided noise",
    "ten_coordinates": "10 coordinates",
    "non_convex": "non-convex",
}
THRESHOLD_COLORS = {"published": "#0072B2", "best": "#E69F00"}
STATISTICS = {"mean": "mean", "median": "median", "quantile_99": "99 % quantile"}


def draw_slopes(rows: Rows, out: Path) -> list[Path]:
    """The power of K of each rule's error against α, with intervals, and theory's line for GClip."""
    problems = [problem for problem in PROBLEMS if any(row["problem"] == problem for row in rows)]
    figure = _panels(len(problems), len(STATISTICS))
    grid = figure.subplots(len(problems), len(STATISTICS), squeeze=False)
    for panels, problem in zip(grid, problems, strict=True):
        for axes, statistic in zip(panels, STATISTICS, strict=True):
            chosen = select(rows, problem=problem, statistic=statistic)
            theory = sorted({(row["alpha"], row["theory"]) for row in chosen})
            axes.plot(*zip(*theory, strict=True), color="black", linestyle="--", linewidth=1, label="theory for GClip")
            finite = sorted(
                {(row["alpha"], row["finite_theory"]) for row in chosen if row["finite_theory"] is not None}
            )
            if finite:
                axes.plot(*zip(*finite, strict=True), color="black", linestyle=":", linewidth=1, label="at these K")
            for rule in different(chosen, "rule"):
                _draw_rule(axes, chosen, "alpha", rule)
            lowest, highest = min(value for _, value in theory), max(value for _, value in theory)
            axes.set_ylim(lowest - 0.5, highest + 0.5)
            axes.set(xlabel=r"tail index $\alpha$ of the noise", ylabel="power of K")
            axes.set_title(f"{PROBLEMS[problem]}: {STATISTICS[statistic]}")
            axes.grid(alpha=0.3)
    _legend_of_all(grid)
    return save_figure(figure, out)


def draw_errors(rows: Rows, out: Path) -> list[Path]:
    """Mean, median and 99 % quantile over trials against K under symmetric noise, a row of panels per α."""
    rows = select(rows, problem="symmetric")
    known = different(rows, "alpha")
    alphas = [alpha for alpha in known if alpha in (1.2, 1.5, 1.8)] or known[:3]
    figure = _panels(len(alphas), len(STATISTICS))
    grid = figure.subplots(len(alphas), len(STATISTICS), squeeze=False, sharex=True)
    for panels, alpha in zip(grid, alphas, strict=True):
        for axes, statistic in zip(panels, STATISTICS, strict=True):
            chosen = select(rows, alpha=alpha, statistic=statistic)
            for rule in different(chosen, "rule"):
                _draw_rule(axes, chosen, "steps", rule)
            _draw_theory(axes, select(chosen, rule="gclip"), -2 * (alpha - 1) / alpha)
            axes.set(xscale="log", yscale="log", xlabel="steps K", ylabel=r"$f - f^*$ of the average")
            axes.set_title(rf"{STATISTICS[statistic]}, $\alpha = {alpha:g}$")
            axes.grid(alpha=0.3)
    _legend_of_all(grid)
    return save_figure(figure, out)


def draw_lower_bound(rows: Rows, out: Path) -> list[Path]:
    """Mean errors on the hardest coin-flip problem for each K, and the least that any method can have."""
    alphas = different(rows, "alpha")
    figure = _panels(1, len(alphas))
    for axes, alpha in zip(figure.subplots(1, len(alphas), squeeze=False)[0], alphas, strict=True):
        chosen = select(rows, alpha=alpha)
        bound = sorted({(row["steps"], row["bound"]) for row in chosen})
        axes.plot(*zip(*bound, strict=True), color="black", linestyle="--", linewidth=1, label="least possible")
        for rule in different(chosen, "rule"):
            _draw_rule(axes, chosen, "steps", rule)
        axes.set(xscale="log", yscale="log", xlabel="gradients K", ylabel="mean error", title=rf"$\alpha = {alpha:g}$")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    return save_figure(figure, out)


def draw_dimensions(rows: Rows, out: Path) -> list[Path]:
    """Error of GClip over that of CClip against d, beside d^(2/α−1)."""
    alphas = different(rows, "alpha")
    figure = _panels(1, len(alphas))
    for axes, alpha in zip(figure.subplots(1, len(alphas), squeeze=False, sharey=True)[0], alphas, strict=True):
        for thresholds, color in THRESHOLD_COLORS.items():
            chosen = select(rows, alpha=alpha, thresholds=thresholds)
            draw_band(axes, chosen, "coordinates", color, f"{thresholds} thresholds", value="ratio")
        chosen = sorted(chosen, key=lambda row: row["coordinates"])
        d = [row["coordinates"] for row in chosen]
        line = [row["predicted"] for row in chosen]
        axes.plot(d, line, color="black", linestyle="--", linewidth=1, label=r"$d^{2/\alpha-1}$")
        axes.set(xscale="log", yscale="log", xlabel="coordinates d", title=rf"$\alpha = {alpha:g}$")
        axes.set_ylabel("error of GClip / error of CClip")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    return save_figure(figure, out)


def _panels(rows: int, columns: int) -> Figure:
    """An empty figure for many small panels."""
    figure = new_figure(columns)
    figure.set_size_inches(3.4 * columns, 2.7 * rows)
    return figure


def _legend_of_all(grid: NDArray) -> None:
    """One legend in the first panel, of what any panel shows."""
    shown: dict[str, Any] = {}
    for axes in grid.flat:
        handles, labels = axes.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    grid[0, 0].legend(list(shown.values()), list(shown), fontsize=7)


def _draw_rule(axes: Axes, rows: Rows, column: str, rule: str) -> None:
    draw_band(axes, select(rows, rule=rule), column, COLORS[rule], LABELS[rule])


def _draw_theory(axes: Axes, rows: Rows, power: float) -> None:
    """A line of that power through GClip's last point."""
    ordered = sorted(rows, key=lambda row: row["steps"])
    last = ordered[-1]
    steps = [row["steps"] for row in ordered]
    line = [last["value"] * (step / last["steps"]) ** power for step in steps]
    axes.plot(steps, line, color="black", linestyle="--", linewidth=1, label=r"$K^{-2(\alpha-1)/\alpha}$")
