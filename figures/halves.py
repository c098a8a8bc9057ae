"""Losses on rare labels against losses on frequent ones, by optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from .style import OPTIMIZER_COLORS, OPTIMIZER_LABELS, OTHER_COLOR, new_figure, plot_mean_and_range, save_figure

Halves = Mapping[str, Sequence[tuple[float, float]]]
"""Losses on the rarer and on the more frequent half, a pair a seed, by optimizer."""


def draw_halves(networks: Mapping[str, Halves], out: Path) -> list[Path]:
    """Draw a panel a network with a point an optimizer: means over seeds, lines from the lowest to the highest.

    Grey lines go through Adam: what lies on the dashed one is as far from Adam on rare labels as on frequent ones. The
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
