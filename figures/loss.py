"""Losses of runs: the table, the curves against steps, and losses on rare labels against those on frequent ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np

from .runs import Group
from .style import OPTIMIZER_COLORS, OPTIMIZER_LABELS, OTHER_COLOR, new_figure, plot_mean_and_range, save_figure
from .tables import aligned, over_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ("optimizer", "lr", "seeds", "state", "steps", "train loss", "eval loss", "best eval loss", "seconds")
PANELS = {"train": "training loss (nats)", "eval": "evaluation loss (nats)"}


def loss_table(groups: Sequence[Group]) -> str:
    """One line per group of runs: means over its seeds, with their range; the lowest final evaluation loss first."""
    return aligned(COLUMNS, map(_line, sorted(groups, key=_final_loss)))


def _line(group: Group) -> tuple[str, ...]:
    def cell(key: str, form: str) -> str:
        return over_seeds([run.status[key] for run in group.runs if run.status.get(key) is not None], form)

    return (
        group.optimizer,
        "" if group.lr is None else f"{group.lr:g}",
        str(len(group.runs)),
        ",".join(sorted({run.status["state"] for run in group.runs})),
        cell("step", ".0f"),
        cell("last_train_loss", ".3f"),
        cell("last_eval_loss", ".3f"),
        cell("best_eval_loss", ".3f"),
        cell("seconds_training", ".0f"),
    )


def _final_loss(group: Group) -> float:
    finished = [run.status.get("last_eval_loss") for run in group.runs if run.status["state"] != "diverged"]
    return mean([loss for loss in finished if loss is not None] or [np.inf])


def draw_losses(groups: Sequence[Group], out: Path) -> list[Path]:
    """Draw a line per group of runs: the median over its seeds, with a band from minimum to maximum.

    A cross marks where a run diverged. The axes end above the losses at the start, so that an exploding run does not
    flatten the others.

    Args:
        groups: runs gathered over their seeds.
        out: path without ending.

    Returns:
        PNG, PDF and SVG.
    """
    groups = sorted(groups, key=lambda group: (group.experiment.name, group.optimizer, group.lr or 0))
    highest = _highest_at_start(groups)
    figure = new_figure(columns=len(PANELS), legend_entries=len(groups))
    for axes, (split, label) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for group, line_label, color in zip(groups, _labels(groups), _colors(groups), strict=True):
            _draw_group(axes, group, split, line_label, color, highest)
        axes.set(xlabel="optimizer steps", ylabel=label)
        if np.isfinite(highest):
            lowest = min((loss for group in groups for run in group.runs for loss in run.curve(split)[1]), default=0)
            axes.set_ylim(lowest - 0.05 * (highest - lowest), highest + 0.05 * (highest - lowest))
        axes.grid(alpha=0.3)
    names = sorted({group.experiment.name for group in groups})
    seeds = max(len(group.runs) for group in groups)
    band = f"median and range over {seeds} seeds" if seeds > 1 else "one seed"
    figure.suptitle(f"{', '.join(names)} ({band})")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return save_figure(figure, out)


def _draw_group(axes: Axes, group: Group, split: str, label: str, color: str, highest: float) -> None:
    curves = [dict(zip(*run.curve(split), strict=True)) for run in group.runs]
    # A diverged seed has a shorter curve: past its end the others are no longer comparable.
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    if not steps:
        return
    losses = np.array([[curve[step] for step in steps] for curve in curves])
    axes.plot(steps, np.median(losses, axis=0), color=color, label=label)
    axes.fill_between(steps, losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.2, linewidth=0)
    if any(run.status["state"] == "diverged" for run in group.runs):
        axes.plot(steps[-1], min(float(np.median(losses[:, -1])), highest), "x", color=color)


def _highest_at_start(groups: Sequence[Group]) -> float:
    """The highest evaluation loss before the first step; infinite where there was no evaluation."""
    curves = [run.curve("eval")[1] for group in groups for run in group.runs]
    return max((losses[0] for losses in curves if losses), default=np.inf)


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
