"""Block heterogeneity of several networks: mean distances over all pairs of blocks, beside their noise floors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from ..errors import UserError
from .hessian import HessianRun, distance_label
from .style import new_figure, save_figure
from .tables import aligned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ("network", "step", "seeds", "sigma", "distance", "noise floor")
DISTANCE, FLOOR = "#0072B2", "#7F7F7F"
INCHES_PER_NETWORK = 0.45


@dataclass(frozen=True)
class MeanDistances:
    """The mean distance between the blocks of one network at one step, for several seeds.

    Attributes:
        network: name of the config.
        step: optimizer steps taken.
        sigma: the smoothing; empty for a distance without one.
        values: one per seed.
        noise_floors: one per seed.
    """

    network: str
    step: int
    sigma: str
    values: tuple[float, ...]
    noise_floors: tuple[float, ...]


def mean_distances(runs: Sequence[HessianRun], measure: str) -> list[MeanDistances]:
    """The mean distances of runs, those of several seeds together.

    Args:
        runs: whose curvature.
        measure: which distance, as measures.csv spells it.

    Raises:
        UserError: no run has such a distance.
    """
    found: dict[tuple[str, int, str], list[tuple[float, float]]] = defaultdict(list)
    for run in runs:
        for step in run.steps:
            for row in run.measures(step):
                if row.measure == measure and row.value is not None:
                    found[run.experiment.name, step, row.sigma].append((row.value, row.noise_floor or 0.0))
    if not found:
        known = dict.fromkeys(
            row.measure for run in runs for row in run.measures(run.steps[0]) if row.noise_floor is not None
        )
        raise UserError(f"--measure {measure}: there are {', '.join(known)}")
    return [MeanDistances(*key, *map(tuple, zip(*pairs, strict=True))) for key, pairs in found.items()]


def heterogeneity_table(distances: Sequence[MeanDistances]) -> str:
    """One line per network, step and smoothing: mean over seeds, with minimum and maximum."""
    return aligned(
        COLUMNS,
        [
            (
                entry.network,
                str(entry.step),
                str(len(entry.values)),
                entry.sigma,
                _over_seeds(entry.values),
                _over_seeds(entry.noise_floors),
            )
            for entry in distances
        ],
    )


def draw_heterogeneity(distances: Sequence[MeanDistances], measure: str, out: Path) -> list[Path]:
    """Draw one point per seed beside its noise floor: one row per network, one panel per smoothing and step.

    Args:
        distances: of each network the first and the last step are drawn.
        measure: name of the distance.
        out: path without ending.

    Returns:
        PNG, PDF and SVG.
    """
    sigmas = list(dict.fromkeys(entry.sigma for entry in distances))
    networks = list(dict.fromkeys(entry.network for entry in distances))
    moments = ("first", "last") if any(len(_steps(distances, network)) > 1 for network in networks) else ("first",)
    figure = new_figure(columns=len(moments), rows=len(sigmas))
    figure.set_figheight(len(sigmas) * (1.2 + INCHES_PER_NETWORK * len(networks)))
    grid = figure.subplots(len(sigmas), len(moments), squeeze=False, sharey=True, sharex="row")
    for row, sigma in zip(grid, sigmas, strict=True):
        for axes, place, moment in zip(row, (0, -1), moments, strict=False):
            steps = {network: _steps(distances, network)[place] for network in networks}
            shown = [entry for entry in distances if entry.sigma == sigma and entry.step == steps[entry.network]]
            _draw_panel(axes, shown, networks)
            axes.set(title=f"{moment} measurement", xlabel=f"mean {distance_label(measure, sigma)}")
    grid[0][0].legend(fontsize=8)
    return save_figure(figure, out)


def _draw_panel(axes: Axes, shown: Sequence[MeanDistances], networks: Sequence[str]) -> None:
    for values, color, marker, label in (
        ([entry.noise_floors for entry in shown], FLOOR, "|", "noise floor"),
        ([entry.values for entry in shown], DISTANCE, "o", "distance, one point per seed"),
    ):
        places = [networks.index(entry.network) for entry, seeds in zip(shown, values, strict=True) for _ in seeds]
        axes.plot([value for seeds in values for value in seeds], places, marker, color=color, alpha=0.8, label=label)
    axes.set_yticks(range(len(networks)), networks)
    axes.set_ylim(len(networks) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.grid(axis="y", alpha=0.3)


def _steps(distances: Sequence[MeanDistances], network: str) -> list[int]:
    return sorted({entry.step for entry in distances if entry.network == network})


def _over_seeds(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{mean(values):.3g} ({min(values):.3g} to {max(values):.3g})"
