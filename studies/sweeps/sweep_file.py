"""What a sweep is: a config, and all that varies over it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationError

from ...configs.errors import ConfigError, explain
from ...configs.load import SHIPPED, parse_value, read_yaml
from ...settings import Settings

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

    What is changed is applied in this order: ``set``, the arm's ``set``, the values of the grids, the seed. Within a
    group of keys a section's ``name`` comes first, for a new name drops the section's other keys.

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
    for folder in (source.parent, Path(), SHIPPED):
        if (folder / config).is_file():
            return folder / config
    places = f"{source.parent}, the working folder and {SHIPPED}"
    raise ConfigError(label, [f"config: {config} is in none of {places}"])


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
