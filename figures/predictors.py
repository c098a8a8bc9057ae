"""Measures before training against the gap between SGD and Adam: of a study's networks, and of a diagnosed one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import OPTIMIZER_COLORS, OTHER_COLOR, new_panels, plot_mean_and_range, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


COLUMNS = 3

BySubject = Mapping[str, Sequence[float]]
"""Values over seeds by network."""


def draw_predictors(gap: BySubject, predictors: Mapping[str, BySubject], out: Path) -> list[Path]:
    """Draw one panel per predictor, one point per network: means over seeds, lines from minimum to maximum.

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
    axes.set(xlabel=name, ylabel="(SGD - Adam) / (start - Adam), evaluation loss", title=title)
    axes.set_yscale("symlog", linthresh=0.1)
    axes.grid(alpha=0.3)


DIAGNOSIS_COLUMNS = 3
YOURS = OPTIMIZER_COLORS["cclip"]


@dataclass(frozen=True)
class Panel:
    """One measure.

    Attributes:
        label: of the axis.
        title: above the panel.
        value: of the diagnosed network.
        noise_floor: of that value; None if unknown.
        others: of the study's networks by name, one value per seed.
    """

    label: str
    title: str
    value: float
    noise_floor: float | None
    others: Mapping[str, Sequence[float]]


def draw_diagnosis(panels: Sequence[Panel], gap: Mapping[str, Sequence[float]], out: Path) -> list[Path]:
    """Draw one panel per measure: one point per network of the study, and a line at the diagnosed network's value.

    Args:
        panels: in order.
        gap: how far SGD ended above Adam, over seeds, by network.
        out: path without ending.

    Returns:
        The written paths.
    """
    figure, places = new_panels(len(panels), DIAGNOSIS_COLUMNS)
    for axes, panel in zip(places, panels, strict=True):
        _draw_diagnosis_panel(axes, panel, gap)
    return save_figure(figure, out)


def _draw_diagnosis_panel(axes: Axes, panel: Panel, gap: Mapping[str, Sequence[float]]) -> None:
    for network, values in panel.others.items():
        plot_mean_and_range(axes, values, gap[network], OTHER_COLOR)
        middle = mean(values), mean(gap[network])
        axes.annotate(network, middle, xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.axvline(panel.value, color=YOURS, label=f"yours, {panel.value:.3g}")
    if panel.noise_floor is not None:
        axes.axvline(panel.noise_floor, color=YOURS, linestyle=":", label="its noise floor")
    axes.legend(fontsize=7)
    axes.set(xlabel=panel.label, ylabel="(SGD - Adam) / (start - Adam), evaluation loss")
    axes.set_title(panel.title, fontsize=9)
    axes.margins(x=0.25)
    axes.grid(alpha=0.3)
