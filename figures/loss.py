"""Losses of runs: the table, the curves against steps, and losses on rare labels against those on frequent ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .runs import Group, Run
from .style import (
    OPTIMIZER_COLORS,
    OPTIMIZER_LABELS,
    OTHER_COLOR,
    limit_losses,
    new_figure,
    plot_mean_and_range,
    save_figure,
)
from .tables import aligned, diverged, over_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ("optimizer", "lr", "seeds", "state", "steps", "train loss", "eval loss", "best eval loss", "seconds")
PANELS = {"train": "training loss (nats)", "eval": "evaluation loss (nats)"}


def loss_table(groups: Sequence[Group]) -> str:
    """One line per group of runs, the lowest final evaluation loss first; a group with a diverged seed is last.

    Losses are means over the finished seeds, with their range. The final ones are those of the seeds that did not
    diverge, since where the others stopped says nothing about them; how many did is said.
    """
    return aligned(COLUMNS, map(_line, sorted(groups, key=_final_loss)))


def _line(group: Group) -> tuple[str, ...]:
    runs = group.compared
    survivors = [run for run in runs if run.state != "diverged"]
    lost = diverged(len(runs) - len(survivors), len(runs))

    def cell(key: str, form: str, of: Sequence[Run] = runs) -> str:
        return over_seeds([run.status[key] for run in of if run.status.get(key) is not None], form)

    return (
        group.optimizer,
        "" if group.lr is None else f"{group.lr:g}",
        str(len(group.runs)),
        _states(group),
        cell("step", ".0f"),
        ", ".join(filter(None, [cell("last_train_loss", ".3f", survivors), lost])),
        ", ".join(filter(None, [cell("last_eval_loss", ".3f", survivors), lost])),
        cell("best_eval_loss", ".3f"),
        cell("seconds_training", ".0f"),
    )


def _states(group: Group) -> str:
    states = Counter(run.state for run in group.runs)
    if len(states) == 1:
        return next(iter(states))
    return ", ".join(f"{state} ({states[state]} of {states.total()})" for state in sorted(states) if state != "done")


def _final_loss(group: Group) -> float:
    losses = [run.status.get("last_eval_loss") for run in group.compared]
    if any(run.state == "diverged" for run in group.compared) or None in losses:
        return np.inf
    return mean(loss for loss in losses if loss is not None)


def draw_losses(groups: Sequence[Group], out: Path) -> list[Path]:
    """Draw a line per group of runs: the median over its finished seeds, with a band from minimum to maximum.

    A cross marks where a seed diverged; from there on its loss counts as infinite. Unfinished seeds are left out if
    there are finished ones, and the legend says so. The axes end above the losses at the start, so that a run that
    explodes does not flatten the others.

    Args:
        groups: runs grouped over their seeds.
        out: path without ending.

    Returns:
        PNG, PDF and SVG.
    """
    groups = sorted(groups, key=lambda group: (group.experiment.name, group.optimizer, group.lr or 0))
    figure = new_figure(columns=len(PANELS), legend_entries=len(groups))
    for axes, (split, label) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        losses = [loss for group in groups for run in group.compared for loss in run.curve(split)[1]]
        top = limit_losses(axes, losses, _highest_at_start(groups))
        for group, line_label, color in zip(groups, _labels(groups), _colors(groups), strict=True):
            _draw_group(axes, group, split, line_label, color, top)
        axes.set(xlabel="optimizer steps", ylabel=label)
        axes.grid(alpha=0.3)
    names = sorted({group.experiment.name for group in groups})
    figure.suptitle(f"{', '.join(names)} ({_seeds(groups)})")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return save_figure(figure, out)


def _draw_group(axes: Axes, group: Group, split: str, label: str, color: str, top: float) -> None:
    steps, losses = _losses_by_step(group.compared, split)
    if len(group.compared) < len(group.runs):
        label += f", {len(group.compared)} of {len(group.runs)} seeds"
    axes.plot(steps, np.median(losses, axis=0), color=color, label=label)
    # A band up to an infinite loss goes to the upper end of the axis.
    axes.fill_between(
        steps,
        losses.min(axis=0),
        np.where(np.isinf(losses.max(axis=0)), top, losses.max(axis=0)),
        where=np.isfinite(losses.min(axis=0)).tolist(),
        color=color,
        alpha=0.2,
        linewidth=0,
    )
    for run in group.compared:
        steps, values = run.curve(split)
        if run.state == "diverged" and steps:
            axes.plot(steps[-1], min(values[-1], top), "x", color=color)


def _losses_by_step(runs: Sequence[Run], split: str) -> tuple[list[int], NDArray[np.float64]]:
    """The steps at which every run has a loss, and the losses ``[runs, steps]``.

    A diverged run has an infinite loss after its last row, if another run goes on; so has a row whose loss is NaN.
    """
    curves = [dict(zip(*run.curve(split), strict=True)) for run in runs]
    ends = [
        max(curve, default=-1) if run.state == "diverged" else np.inf for run, curve in zip(runs, curves, strict=True)
    ]
    steps = [
        step
        for step in sorted(set().union(*curves))
        if all(step in curve or step > end for curve, end in zip(curves, ends, strict=True))
    ]
    losses = np.array([[curve.get(step, np.inf) for step in steps] for curve in curves])
    return steps, np.where(np.isnan(losses), np.inf, losses)


def _seeds(groups: Sequence[Group]) -> str:
    counts = sorted({len(group.compared) for group in groups})
    if counts == [1]:
        return "one seed"
    shown = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"median and range over {shown} seeds"


def _highest_at_start(groups: Sequence[Group]) -> float:
    """The highest finite evaluation loss before the first step; infinite without one."""
    curves = [run.curve("eval")[1] for group in groups for run in group.compared]
    return max((losses[0] for losses in curves if losses and np.isfinite(losses[0])), default=np.inf)


def _colors(groups: Sequence[Group]) -> list[str]:
    """The optimizer's color; several groups of one optimizer range from light to full."""
    from matplotlib.colors import to_hex, to_rgb

    colors = []
    for group in groups:
        alike = [other for other in groups if other.optimizer == group.optimizer]
        strength = (alike.index(group) + 1) / len(alike)
        red, green, blue = (
            1 - (1 - channel) * (0.25 + 0.75 * strength)
            for channel in to_rgb(OPTIMIZER_COLORS.get(group.optimizer, OTHER_COLOR))
        )
        colors.append(to_hex((red, green, blue)))
    return colors


def _labels(groups: Sequence[Group]) -> list[str]:
    """The optimizer's name, with learning rate and run name where they differ between groups."""
    names = {group.experiment.name for group in groups}
    labels = []
    for group in groups:
        label = OPTIMIZER_LABELS.get(group.optimizer, group.optimizer)
        if sum(other.optimizer == group.optimizer for other in groups) > len(names) and group.lr is not None:
            label += f", lr {group.lr:g}"
        if len(names) > 1:
            label += f" ({group.experiment.name})"
        labels.append(label)
    return labels


Halves = Mapping[str, Sequence[tuple[float, float]]]
"""By optimizer: a pair per seed, the losses on the rarer and on the more frequent half of the labels."""


def draw_halves(networks: Mapping[str, Halves], out: Path) -> list[Path]:
    """Draw a panel per network with a point per optimizer: means over seeds, lines from minimum to maximum.

    Grey lines go through Adam; a point on the dashed one is as far from Adam on rare labels as on frequent ones. The
    legend is that of the last network.

    Args:
        networks: by name.
        out: path without ending.

    Returns:
        The written paths.
    """
    figure = new_figure(columns=len(networks))
    for axes, (name, losses) in zip(figure.subplots(1, len(networks), squeeze=False)[0], networks.items(), strict=True):
        for optimizer, pairs in losses.items():
            rare, frequent = zip(*pairs, strict=True)
            color = OPTIMIZER_COLORS.get(optimizer, OTHER_COLOR)
            plot_mean_and_range(axes, frequent, rare, color, OPTIMIZER_LABELS.get(optimizer, optimizer))
        if "adam" in losses:
            rare, frequent = zip(*losses["adam"], strict=True)
            axes.axline((mean(frequent), mean(rare)), slope=1, color="grey", linewidth=0.8, linestyle="--")
            axes.axhline(mean(rare), color="grey", linewidth=0.8)
            axes.axvline(mean(frequent), color="grey", linewidth=0.8)
        axes.set(xlabel="loss on frequent labels (nats)", ylabel="loss on rare labels (nats)", title=name)
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return save_figure(figure, out)
