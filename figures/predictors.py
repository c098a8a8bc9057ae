"""What might foretell the gap between SGD and Adam, against the gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import new_panels, plot_mean_and_range, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3

BySubject = Mapping[str, Sequence[float]]
"""Values over seeds by network."""


def draw_predictors(gap: BySubject, predictors: Mapping[str, BySubject], out: Path) -> list[Path]:
    """Draw a panel a predictor with a point a network: means over seeds, lines from the lowest to the highest.

    Args:
        gap: how far SGD ends above Adam, by network; a network with a diverged run (infinite) is left out.
        predictors: by name.
        out: path without ending.

    Returns:
        The written paths.
    """
    figure, panels = new_panels(len(predictors), COLUMNS)
    for axes, (name, values) in zip(panels, predictors.items(), strict=True):
        _draw_panel(axes, name, values, gap)
    handles: dict[str, Any] = {}
    for axes in panels:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper")
    return save_figure(figure, out)


def _draw_panel(axes: Axes, name: str, values: BySubject, gap: BySubject) -> None:
    from scipy.stats import spearmanr

    both = [network for network in gap if network in values]
    networks = [network for network in both if np.isfinite([*gap[network], *values[network]]).all()]
    for network in networks:
        color = f"C{list(gap).index(network) % 10}"
        plot_mean_and_range(axes, values[network], gap[network], color, network)
    axes.axhline(0, color="grey", linewidth=0.8)
    title = f"{len(networks)} networks"
    if len(networks) > 2:
        means = [[mean(side[network]) for network in networks] for side in (values, gap)]
        title += f", rank correlation {spearmanr(*means).statistic:.2f}"
    axes.set(xlabel=name, ylabel="SGD less Adam, over start less Adam", title=title)
    # Most gaps are small, some are not.
    axes.set_yscale("symlog", linthresh=0.1)
    axes.grid(alpha=0.3)
