"""``whyadam list``, ``validate``, ``show`` and ``path``: what can be known of a config before it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .train import ConfigFile, Overrides, Seed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..configs.schema import Experiment
    from ..settings import Registry


class Listed(StrEnum):
    """What can be listed."""

    optimizers = "optimizers"
    models = "models"
    data = "data"
    tasks = "tasks"
    noise_laws = "noise-laws"
    configs = "configs"


def list_names(what: Annotated[Listed, typer.Argument(help="What to list.")]) -> None:
    """List the names that a config can use, each with one line and its paper."""
    rows = list(_configs() if what is Listed.configs else _entries(_registry(what)))
    width = max(len(name) for name, _ in rows)
    for name, line in rows:
        typer.echo(f"{name:<{width}}  {line}")


def _registry(what: Listed) -> Registry[Any]:
    from ..configs.schema import DATA, MODELS, NOISE_LAWS, OPTIMIZERS, TASKS

    registries: dict[str, Registry[Any]] = {
        "optimizers": OPTIMIZERS,
        "models": MODELS,
        "data": DATA,
        "tasks": TASKS,
        "noise-laws": NOISE_LAWS,
    }
    return registries[what]


def _entries(registry: Registry[Any]) -> Iterator[tuple[str, str]]:
    for name, entry in registry.items():
        yield name, entry.summary() + (f" [{entry.paper}]" if entry.paper else "")
    if registry.custom is not None:
        yield "package.module:Class", registry.custom.summary()


def _configs() -> Iterator[tuple[str, str]]:
    from ..configs.load import config_path, shipped_configs

    for name in shipped_configs():
        first_line = config_path(name).read_text(encoding="utf-8").splitlines()[0]
        yield name, first_line.removeprefix("#").strip()


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML configs, or names of shipped ones.")],
    overrides: Overrides = None,
) -> None:
    """Check configs: keys, types, and whether model, data and task fit together. Nothing is loaded or downloaded."""
    from ..configs.load import ConfigError, check_runnable, load_experiment

    wrong = 0
    for file in files:
        try:
            check_runnable(load_experiment(file, overrides or []), str(file))
        except ConfigError as error:
            wrong += 1
            for problem in error.problems:
                typer.echo(f"{error.source}: {problem}", err=True)
        else:
            typer.echo(f"{file}: valid")
    raise typer.Exit(2 if wrong else 0)


def show(config: ConfigFile, overrides: Overrides = None, seed: Seed = None) -> None:
    """Print the resolved config as YAML, every default written out."""
    from ..configs.load import dump_experiment

    typer.echo(dump_experiment(_load(config, overrides, seed)), nl=False)


def path(
    config: ConfigFile,
    overrides: Overrides = None,
    seed: Seed = None,
    out: Annotated[Path, typer.Option(help="Folder for run folders.")] = Path("runs"),
) -> None:
    """Print the run folder that `train` would use with the same arguments; nothing is created."""
    from ..training.run_folder import RunFolder

    typer.echo(str(RunFolder.of(_load(config, overrides, seed), out).path))


def _load(config: Path, overrides: list[str] | None, seed: int | None) -> Experiment:
    from ..configs.load import load_experiment

    return load_experiment(config, [*(overrides or []), *([] if seed is None else [f"seed={seed}"])])
