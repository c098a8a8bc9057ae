"""``whyadam list`` and ``whyadam validate``: what a config can name, and whether it is valid; nothing runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .train import Overrides

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    from ..data import DATA
    from ..data.noise_laws import NOISE_LAWS
    from ..models import MODELS
    from ..optimizers.registry import OPTIMIZERS
    from ..tasks import TASKS

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
    from ..configs.load import SHIPPED

    here = Path.cwd()
    for path in sorted(SHIPPED.glob("*/*.yaml")):
        first_line = path.read_text(encoding="utf-8").splitlines()[0]
        yield str(path.relative_to(here) if path.is_relative_to(here) else path), first_line.removeprefix("#").strip()


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML configs.")],
    overrides: Overrides = None,
) -> None:
    """Check configs: keys, types, and whether model, data and task fit together. Nothing is loaded or downloaded."""
    from ..configs.load import ConfigError, load_experiment

    wrong = 0
    for file in files:
        try:
            load_experiment(file, overrides or [])
        except ConfigError as error:
            wrong += 1
            for problem in error.problems:
                typer.echo(f"{error.source}: {problem}", err=True)
        else:
            typer.echo(f"{file}: valid")
    raise typer.Exit(2 if wrong else 0)
