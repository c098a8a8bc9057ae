"""The common style of all pictures: colors, labels, sizes and file formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf, isfinite
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's palette, distinguishable with every common color blindness.
OPTIMIZER_COLORS = {
    "sgd": "#000000",
    "adam": "#0072B2",
    "adamw": "#56B4E9",
    "gclip": "#E69F00",
    "cclip": "#D55E00",
    "acclip": "#009E73",
    "acclip_rms": "#8FBC5A",
    "signum": "#CC79A7",
    "normalized_sgd": "#8C6D31",
}
OTHER_COLOR = "#7F7F7F"
OPTIMIZER_LABELS = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "gclip": "GClip",
    "cclip": "CClip",
    "acclip": "ACClip",
    "acclip_rms": "ACClip-RMS",
    "signum": "Signum",
    "normalized_sgd": "normalized SGD",
}
SUFFIXES = (".png", ".pdf", ".svg")


def new_figure(columns: int, rows: int = 1, legend_entries: int = 0) -> Figure:
    """An empty figure sized for its panels and for a legend beside them; no window is opened."""
    from matplotlib.figure import Figure

    legend_height = 0.25 * legend_entries + 0.5
    return Figure(figsize=(5.2 * columns, max(3.9 * rows, legend_height)), layout="constrained")


def new_panels(count: int, columns: int) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels, row by row, at most ``columns`` in a row."""
    rows = -(-count // columns)
    figure = new_figure(min(count, columns), rows)
    panels = figure.subplots(rows, min(count, columns), squeeze=False).flatten()
    for unused in panels[count:]:
        unused.set_axis_off()
    return figure, list(panels[:count])


def plot_mean_and_range(
    axes: Axes, x: Sequence[float], y: Sequence[float], color: str, label: str | None = None
) -> None:
    """Plot a point at the means over seeds, with lines from minimum to maximum in both directions."""
    axes.plot([mean(x)] * 2, [min(y), max(y)], color=color, alpha=0.5)
    axes.plot([min(x), max(x)], [mean(y)] * 2, color=color, alpha=0.5)
    axes.plot(mean(x), mean(y), "o", color=color, label=label)


def limit_losses(axes: Axes, losses: Iterable[float], start: float) -> float:
    """Set the limits of a loss axis so that a loss that explodes does not flatten the others.

    The axis ends at the loss before the first step. If no loss is clearly below that one (by 1 %), it ends at the
    largest finite loss instead, and is logarithmic if that is more than 100 times the lowest.

    Args:
        axes: its vertical axis is set.
        losses: of all lines; infinite and NaN ones are ignored.
        start: loss before the first step; infinite or NaN if unknown.

    Returns:
        The largest loss inside the limits; infinite if no loss is finite, and then nothing is set.
    """
    finite = [loss for loss in losses if isfinite(loss)]
    if not finite:
        return inf
    low, top = min(finite), max(finite)
    if isfinite(start) and start - low > 0.01 * abs(start):
        top = start
    elif 0 < 100 * low < top:
        axes.set_yscale("log")
        margin = (top / low) ** 0.05
        axes.set_ylim(low / margin, top * margin)
        return top
    margin = 0.05 * (top - low) or 0.05 * abs(top) or 1.0
    axes.set_ylim(low - margin, top + margin)
    return top


def plot_band(
    axes: Axes, rows: Iterable[Mapping[str, Any]], column: str, color: str, label: str, value: str = "value"
) -> None:
    """Plot the values of rows against a column, in its order, over the band from ``ci_low`` to ``ci_high``."""
    ordered = sorted(rows, key=lambda row: row[column])
    x, values, low, high = ([row[name] for row in ordered] for name in (column, value, "ci_low", "ci_high"))
    axes.plot(x, values, "o-", markersize=3, linewidth=1, color=color, label=label)
    axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)


def save_figure(figure: Figure, out: Path) -> list[Path]:
    """Write the figure as PNG, PDF and SVG.

    Args:
        figure: what to write.
        out: the path with or without one of the three suffixes; missing folders are created.

    Returns:
        The three paths.
    """
    import matplotlib

    out.parent.mkdir(parents=True, exist_ok=True)
    _escape_invalid_math(figure)
    paths = [out.with_name(without_ending(out) + suffix) for suffix in SUFFIXES]
    # No date and a fixed salt: the same figure gives the same SVG.
    with matplotlib.rc_context({"svg.hashsalt": "whyadam"}):
        for path in paths:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def without_ending(out: Path) -> str:
    """The file name without the suffix that ``save_figure`` adds."""
    return out.stem if out.suffix in SUFFIXES else out.name


def _escape_invalid_math(figure: Figure) -> None:
    """Show text literally where dollar signs (of a config's name, say) do not enclose valid math."""
    from matplotlib.mathtext import MathTextParser
    from matplotlib.text import Text

    parser = MathTextParser("path")
    for text in figure.findobj(Text):
        if "$" in text.get_text():
            try:
                for line in text.get_text().splitlines():
                    parser.parse(line)
            except ValueError:
                text.set_parse_math(False)
