"""What the noise pictures share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURED, GAUSSIAN, STABLE = "#0072B2", "#009E73", "#D55E00"
VERDICT_COLORS = {"light": "#56B4E9", "gaussian": "#7F7F7F", "heavy": "#E69F00", "infinite_variance": "#D55E00"}


def use_logarithmic_x(axes: Axes) -> None:
    """Make the horizontal axis logarithmic, with few ticks, written as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
