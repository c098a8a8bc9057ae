"""What a sweep is, a config and all that varies over it; and the runs that it stands for."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationError

from ...configs.load import (
    SHIPPED,
    ConfigError,
    apply_changes,
    check_runnable,
    config_path,
    explain,
    format_override,
    merge_changes,
    parse_experiment,
    parse_value,
    read_yaml,
)
from ...configs.schema import Experiment
from ...settings import Settings
from ...training.run_folder import RunFolder

ArmName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


def parse_seeds(seeds: Any) -> Any:
    """Seeds as a list: ``0..2`` stands for 0, 1 and 2, and ``0,1,5`` for these three.

    Raises:
        ValueError: a text is neither.
    """
    if isinstance(seeds, int):
        return [seeds]
    if not isinstance(seeds, str):
        return seeds
    first, dots, last = seeds.partition("..")
    try:
        return list(range(int(first), int(last) + 1)) if dots else [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise ValueError(f"{seeds!r} should be a range such as 0..2, or a list such as 0,1,5") from None


def _refuse_repetition(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(f"{value} is given twice")
    return values


def _refuse_seed(changes: dict[str, Any]) -> dict[str, Any]:
    if "seed" in changes:
        raise ValueError("a sweep has its seeds in seeds, not here")
    return changes


def _check_lists(grid: Any) -> Any:
    """The key's name in the message: a dotted key would be cut out of it."""
    for key, values in grid.items() if isinstance(grid, Mapping) else ():
        if not isinstance(values, list | tuple) or not values:
            raise ValueError(f"{key}: should be a list of values to try, got {values!r:.60}")
        try:
            _refuse_repetition(tuple(values))
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    return grid


Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**63)], ...],
    BeforeValidator(parse_seeds),
    Field(min_length=1),
    AfterValidator(_refuse_repetition),
]
Changes = Annotated[dict[str, Any], AfterValidator(_refuse_seed)]
Grid = Annotated[dict[str, tuple[Any, ...]], BeforeValidator(_check_lists), AfterValidator(_refuse_seed)]


class Arm(Settings):
    """A named variation of a sweep's config, such as an optimizer with the learning rates to try.

    Attributes:
        set: values by dotted key.
        grid: lists of values by dotted key; every combination is run.
    """

    set: Changes = Field(default_factory=dict)
    grid: Grid = Field(default_factory=dict)


class Sweep(Settings):
    """Runs that come from one config.

    What is given later holds against what is given earlier: ``set``, the arm's ``set``, the values of the grids, the
    seed. Names of sections are applied before everything else, so what ``set`` says holds in every run, whichever
    optimizer its arm or its point in the grid names.

    Attributes:
        config: path of the config; see ``find_config``.
        set: values by dotted key, for all runs.
        seeds: of the runs; the config's own by default.
        tuning_seeds: where they are given, the grid is run on these alone, and each arm's best point on ``seeds``.
        grid: lists of values by dotted key, for all arms.
        arms: named variations; without any there is one, whose name is empty.
    """

    config: str
    set: Changes = Field(default_factory=dict)
    seeds: Seeds | None = None
    tuning_seeds: Seeds | None = None
    grid: Grid = Field(default_factory=dict)
    arms: dict[ArmName, Arm] = Field(default_factory=dict)


def load_sweep(path: Path) -> Sweep:
    """Read a sweep file, or a config, which is a sweep of one run.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong; one line names the file and the key.
    """
    values = read_yaml(path)
    if "config" not in values:
        return Sweep(config=str(path))
    sweep = _validate(values, str(path))
    return sweep.model_copy(update={"config": str(find_config(sweep.config, path, str(path)))})


def change_sweep(sweep: Sweep, **changes: Any) -> Sweep:
    """A sweep with other values for some of its keys.

    Raises:
        ConfigError: one of them is wrong.
    """
    return _validate(sweep.model_dump(exclude_unset=True) | changes, sweep.config)


def _validate(values: Mapping[str, Any], label: str) -> Sweep:
    try:
        return Sweep.model_validate(values)
    except ValidationError as error:
        raise ConfigError(label, explain(error)) from None


def find_config(config: str, source: Path, label: str) -> Path:
    """The config that a sweep names: beside its file, in the working folder, or among those that come with whyadam.

    Raises:
        ConfigError: it is in none of these places; ``label`` begins its message.
    """
    try:
        return config_path(config, source.parent)
    except ConfigError:
        places = f"{source.parent}, the working folder and {SHIPPED}"
        raise ConfigError(label, [f"config: {config} is in none of {places}"]) from None


def parse_grid(text: str) -> tuple[str, tuple[Any, ...]]:
    """The key and the values of ``dotted.key=a,b,c``, each value in YAML.

    Raises:
        ConfigError: it is not of that form.
    """
    key, _, listed = text.partition("=")
    values = parse_value(f"[{listed}]", source=f"--grid {text}")
    if not key or not values:
        raise ConfigError(f"--grid {text}", ["should be dotted.key=a,b,c, such as optimizer.lr=1e-3,3e-3"])
    return key, tuple(values)


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
        changes: what was changed, in any order; the seed left out.
        dropped: one line for each section of the config whose keys do not apply to what a change names.
    """

    arm: str
    point: Mapping[str, Any]
    seed: int
    experiment: Experiment
    config: Path
    changes: tuple[tuple[str, Any], ...]
    dropped: tuple[str, ...] = ()

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

    All runs of one seed come before those of the next, so that an interrupted sweep has complete seeds.

    Args:
        sweep: what varies.
        chosen: the chosen point of each arm, run on the sweep's seeds; by default the full grid of every arm, on the
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
                source = " ".join([str(config), *_words(arm, point)])
                changes = merge_changes(*(tuple(layer.items()) for layer in layers), source=source)
                changed = deepcopy(values)
                dropped = apply_changes(changed, changes, source)
                if seed is not None:
                    changed["seed"] = seed
                experiment = parse_experiment(changed, source)
                check_runnable(experiment, source)
                yield Trial(arm, point, experiment.seed, experiment, config, tuple(changes.items()), tuple(dropped))


def _words(arm: str, point: Mapping[str, Any]) -> list[str]:
    return [word for word in (arm, describe_point(point)) if word]


def describe_arms(trials: Sequence[Trial]) -> list[str]:
    """One line per arm, and per choice by name in its grid: the resolved settings that are not the same in all runs.

    Without arms and without a choice by name there is nothing to tell apart.
    """
    flat = [_flat(trial.experiment.model_dump(mode="json", exclude={"seed"})) for trial in trials]
    keys = dict.fromkeys(key for run in flat for key in run)
    differing = [key for key in keys if len({run.get(key) for run in flat}) > 1]
    names = [key for key in differing if key.endswith(".name")]
    groups: dict[str, list[dict[str, str]]] = {}
    for trial, run in zip(trials, flat, strict=True):
        label = " ".join(filter(None, dict.fromkeys([trial.arm, *(run[key] for key in names if key in run)])))
        groups.setdefault(label, []).append(run)
    lines = []
    for label, runs in groups.items():
        values = {key: dict.fromkeys(run[key] for run in runs if key in run) for key in differing}
        words = [f"{key}={'|'.join(seen)}" for key, seen in values.items() if seen]
        lines.append(f"{label}: {' '.join(words)}")
    return lines if len(groups) > 1 else []


def _flat(group: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Every value by its dotted key, as text."""
    flat: dict[str, str] = {}
    for key, value in group.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = _describe("", value).removeprefix("=")
    return flat
