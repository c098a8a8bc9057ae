"""One network among those of a study: its measures at the start, beside the gap between SGD and Adam of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from .style import OPTIMIZER_COLORS, OTHER_COLOR, new_panels, plot_mean_and_range, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
YOURS = OPTIMIZER_COLORS["cclip"]


@dataclass(frozen=True)
class Panel:
    """One measure.

    Attributes:
        label: of the axis.
        title: above the panel.
        value: of the network that is diagnosed.
        noise_floor: what noise alone would give it; None if nobody knows.
        others: the values of each of the study's networks over its seeds, by name.
    """

    label: str
    title: str
    value: float
    noise_floor: float | None
    others: Mapping[str, Sequence[float]]


def draw_diagnosis(panels: Sequence[Panel], gap: Mapping[str, Sequence[float]], out: Path) -> list[Path]:
    """Draw a panel a measure: a point a network of the study, and a line where the diagnosed one lies.

    Args:
        panels: in order.
        gap: how far SGD ended above Adam, over seeds, by network.
        out: path without ending.

    Returns:
        The written paths.
    """
    figure, places = new_panels(len(panels), COLUMNS)
    for axes, panel in zip(places, panels, strict=True):
        _draw_panel(axes, panel, gap)
    return save_figure(figure, out)


def _draw_panel(axes: Axes, panel: Panel, gap: Mapping[str, Sequence[float]]) -> None:
    for network, values in panel.others.items():
        plot_mean_and_range(axes, values, gap[network], OTHER_COLOR)
        middle = mean(values), mean(gap[network])
        axes.annotate(network, middle, xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.axvline(panel.value, color=YOURS, label=f"yours, {panel.value:.3g}")
    if panel.noise_floor is not None:
        axes.axvline(panel.noise_floor, color=YOURS, linestyle=":", label="its noise floor")
    axes.legend(fontsize=7)
    axes.set(xlabel=panel.label, ylabel="SGD less Adam, over start less Adam")
    axes.set_title(panel.title, fontsize=9)
    axes.margins(x=0.25)
    axes.grid(alpha=0.3)
