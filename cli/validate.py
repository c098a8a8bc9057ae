"""``whyadam validate``: check configs without running anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML configs.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override any key; repeatable.")
    ] = None,
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
