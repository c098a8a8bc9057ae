"""From a sweep to the runs it stands for."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ...configs.load import apply_change, format_override, parse_experiment, read_yaml
from ...configs.schema import Experiment
from ...training.run_folder import RunFolder
from .sweep_file import Arm, Sweep

ONLY_ARM = ""
"""Name of the arm of a sweep that names none."""


@dataclass(frozen=True)
class Trial:
    """One planned run.

    Attributes:
        arm: its variation.
        point: its place in the grid, a value by dotted key.
        seed: of the run.
        experiment: what is run.
        config: the file it comes from.
        changes: what was changed, in order; the seed left out.
    """

    arm: str
    point: Mapping[str, Any]
    seed: int
    experiment: Experiment
    config: Path
    changes: tuple[tuple[str, Any], ...]

    def folder(self, out: Path) -> RunFolder:
        """Its run folder below ``out``, the same as that of ``whyadam train``."""
        return RunFolder.of(self.experiment, out)

    def describe(self) -> str:
        """Arm, point and seed in a few words."""
        return " ".join([*_words(self.arm, self.point), f"seed {self.seed}"])

    def command(self, out: Path) -> str:
        """The shell line that does the same run, in the same folder."""
        words = ["whyadam", "train", str(self.config)]
        for key, value in self.changes:
            words += ["-s", format_override(key, value)]
        return shlex.join([*words, "--seed", str(self.seed), "--out", str(out)])


def describe_point(point: Mapping[str, Any]) -> str:
    """The values of a point by their keys; unequal points never read the same."""
    return " ".join(_describe(key.removeprefix("optimizer."), value) for key, value in point.items())


def _describe(key: str, value: Any) -> str:
    # YAML's own way to write a float is 3.0e-05.
    return f"{key}={value!r}" if isinstance(value, float) else format_override(key, value)


def plan(sweep: Sweep, chosen: Mapping[str, Mapping[str, Any]] | None = None) -> list[Trial]:
    """The runs of a sweep, or those of its second stage.

    All runs of one seed come before those of the next, so that a sweep cut short has whole seeds.

    Args:
        sweep: what varies.
        chosen: the chosen point of each arm, run on the sweep's seeds; by default the whole grid of every arm, on the
            tuning seeds where there are any, but for arms that leave no choice.

    Raises:
        ConfigError: the config cannot be read, or a run would have a wrong config.
    """
    if chosen is not None:
        return list(_trials(sweep, {arm: [point] for arm, point in chosen.items()}, sweep.seeds))
    points = {name: grid_points(sweep.grid | arm.grid) for name, arm in arms_of(sweep).items()}
    if sweep.tuning_seeds is None:
        return list(_trials(sweep, points, sweep.seeds))
    tuned = {arm: places for arm, places in points.items() if len(places) > 1}
    settled = {arm: places for arm, places in points.items() if arm not in tuned}
    return [*_trials(sweep, tuned, sweep.tuning_seeds), *_trials(sweep, settled, sweep.seeds)]


def arms_of(sweep: Sweep) -> Mapping[str, Arm]:
    """The sweep's arms; one where it names none."""
    return sweep.arms or {ONLY_ARM: Arm()}


def grid_points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values, the last key varying fastest."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def _trials(
    sweep: Sweep, points: Mapping[str, Sequence[Mapping[str, Any]]], seeds: Sequence[int] | None
) -> Iterator[Trial]:
    config = Path(sweep.config)
    values = read_yaml(config)
    for seed in seeds or (None,):
        for arm, places in points.items():
            for point in places:
                layers = (sweep.set, arms_of(sweep)[arm].set, point)
                changes = tuple(change for layer in layers for change in _names_first(layer))
                experiment = _experiment(values, changes, seed, " ".join([str(config), *_words(arm, point)]))
                yield Trial(arm, point, experiment.seed, experiment, config, changes)


def _words(arm: str, point: Mapping[str, Any]) -> list[str]:
    return [word for word in (arm, describe_point(point)) if word]


def _names_first(layer: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(layer.items(), key=lambda item: not item[0].endswith(".name"))


def _experiment(
    values: dict[str, Any], changes: Sequence[tuple[str, Any]], seed: int | None, source: str
) -> Experiment:
    values = deepcopy(values)
    for key, value in changes:
        apply_change(values, key, value, source)
    if seed is not None:
        values["seed"] = seed
    return parse_experiment(values, source)
