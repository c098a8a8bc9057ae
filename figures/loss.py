"""Loss curves: train and evaluation loss against steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .runs import Group
from .style import OPTIMIZER_COLORS, OPTIMIZER_LABELS, OTHER_COLOR, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = {"train": "training loss (nats)", "eval": "evaluation loss (nats)"}


def draw_losses(groups: Sequence[Group], out: Path) -> list[Path]:
    """Draw a line a group of runs: the median over its seeds, with a band from the lowest to the highest.

    Args:
        groups: runs gathered over their seeds.
        out: path without ending.

    Returns:
        The PNG and the PDF.
    """
    figure = new_figure(columns=len(PANELS))
    for axes, (split, label) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for group, line_label in zip(groups, _labels(groups), strict=True):
            _draw_group(axes, group, split, line_label)
        axes.set(xlabel="optimizer steps", ylabel=label)
        axes.grid(alpha=0.3)
    names = sorted({group.experiment.name for group in groups})
    seeds = max(len(group.runs) for group in groups)
    band = f"median and range over {seeds} seeds" if seeds > 1 else "one seed"
    figure.suptitle(f"{', '.join(names)} ({band})")
    axes.legend()
    return save_figure(figure, out)


def _draw_group(axes: Axes, group: Group, split: str, label: str) -> None:
    color = OPTIMIZER_COLORS.get(group.optimizer, OTHER_COLOR)
    curves = [dict(zip(*run.curve(split), strict=True)) for run in group.runs]
    # A diverged seed has a shorter curve: past its end the others are no longer comparable.
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    if not steps:
        return
    losses = np.array([[curve[step] for step in steps] for curve in curves])
    axes.plot(steps, np.median(losses, axis=0), color=color, label=label)
    axes.fill_between(steps, losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.2, linewidth=0)
    if any(run.status["state"] == "diverged" for run in group.runs):
        axes.plot(steps[-1], np.median(losses[:, -1]), "x", color=color)


def _labels(groups: Sequence[Group]) -> list[str]:
    """The optimizer's name; with its learning rate where it appears more than once, with the run's name likewise."""
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
