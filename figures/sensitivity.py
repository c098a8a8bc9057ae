"""How much the learning rate matters: final evaluation loss against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from .style import OPTIMIZER_COLORS, OPTIMIZER_LABELS, OTHER_COLOR, new_figure, save_figure
from .tried import Comparison, Rule, Setting

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

TOP = 0.97
"""Where the marks of diverged settings stand, as a share of the panel's height."""


def draw_sensitivity(comparisons: Sequence[Comparison], out: Path) -> list[Path]:
    """Draw a panel a comparison, a line an optimizer: the median over seeds, with a band from the lowest to highest.

    Where an optimizer has several settings of one learning rate, the best of them is drawn. The panels end at the loss
    before the first step: a triangle at the top stands for a higher one, a cross for a setting whose median diverged.

    Args:
        comparisons: what to draw.
        out: path without ending.

    Returns:
        PNG, PDF and SVG.

    Raises:
        UserError: no optimizer has a learning rate.
    """
    panels = [(comparison, _lines(comparison)) for comparison in comparisons]
    shown = [(comparison, lines) for comparison, lines in panels if lines]
    if not shown:
        raise UserError("no optimizer of these runs has a learning rate")
    names = {name for _, lines in shown for name in lines}
    figure = new_figure(columns=len(shown), legend_entries=len(names))
    handles: dict[str, Artist] = {}
    for axes, (comparison, lines) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        highest = _loss_at_start(comparison)
        for name, line in lines.items():
            _draw_line(axes, name, line, highest)
        _finish(axes, comparison.label, highest)
        handles |= {str(handle.get_label()): handle for handle in axes.get_legend_handles_labels()[0]}
    figure.legend(handles=list(handles.values()), loc="outside right upper")
    return save_figure(figure, out)


def _lines(comparison: Comparison) -> dict[str, dict[float, Setting]]:
    """Those of the optimizers that have a learning rate, by name."""
    return {rule.name: line for rule in comparison.rules if (line := _line(rule))}


def _line(rule: Rule) -> dict[float, Setting]:
    """The best setting of each learning rate, in ascending order."""
    best: dict[float, Setting] = {}
    for setting in rule.settings:
        rate = setting.group.lr
        if rate is not None and (rate not in best or setting.median < best[rate].median):
            best[rate] = setting
    return dict(sorted(best.items()))


def _draw_line(axes: Axes, name: str, line: Mapping[float, Setting], highest: float) -> None:
    color = OPTIMIZER_COLORS.get(name, OTHER_COLOR)
    rates = list(line)
    medians = [setting.median for setting in line.values()]
    # A line to an infinite value is none: matplotlib leaves it out, and the band with it.
    axes.plot(rates, medians, "o-", color=color, label=OPTIMIZER_LABELS.get(name, name))
    axes.fill_between(
        rates,
        [min(setting.losses) for setting in line.values()],
        [max(setting.losses) for setting in line.values()],
        color=color,
        alpha=0.2,
        linewidth=0,
    )
    for marker, beyond in (
        ("x", [rate for rate, loss in zip(rates, medians, strict=True) if loss == inf]),
        ("^", [rate for rate, loss in zip(rates, medians, strict=True) if highest < loss < inf]),
    ):
        axes.plot(beyond, [TOP] * len(beyond), marker, color=color, transform=axes.get_xaxis_transform())


def _finish(axes: Axes, label: str, highest: float) -> None:
    axes.set_xscale("log")
    axes.set(title=label, xlabel="learning rate", ylabel="final evaluation loss (nats)")
    if highest < inf:
        axes.set_ylim(top=highest)
    axes.grid(alpha=0.3)


def _loss_at_start(comparison: Comparison) -> float:
    """The highest evaluation loss before the first step."""
    runs = [run for rule in comparison.rules for setting in rule.settings for run in setting.group.runs]
    curves = [run.curve("eval")[1] for run in runs]
    return max((losses[0] for losses in curves if losses), default=inf)
