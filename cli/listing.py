"""``whyadam list``: what a config can name."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    from ..data.noise_laws import NOISE_LAWS
    from ..data.registry import DATA
    from ..models import MODELS
    from ..optimizers.registry import OPTIMIZERS
    from ..tasks.registry import TASKS

    registries: dict[Listed, Registry[Any]] = {
        Listed.optimizers: OPTIMIZERS,
        Listed.models: MODELS,
        Listed.data: DATA,
        Listed.tasks: TASKS,
        Listed.noise_laws: NOISE_LAWS,
    }
    return registries[what]


def _entries(registry: Registry[Any]) -> Iterator[tuple[str, str]]:
    for name, entry in registry.items():
        yield name, entry.summary() + (f" [{entry.paper}]" if entry.paper else "")
    if registry.custom is not None:
        yield "package.module:Class", registry.custom.summary()


def _configs() -> Iterator[tuple[str, str]]:
    from ..configs.load import SHIPPED

    for path in sorted(SHIPPED.glob("*/*.yaml")):
        first_line = path.read_text(encoding="utf-8").splitlines()[0]
        yield _as_typed(path), first_line.removeprefix("#").strip()


def _as_typed(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
