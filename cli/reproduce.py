"""``whyadam reproduce``: one study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError


def reproduce(
    name: Annotated[str | None, typer.Argument(help="Which study; see --list.")] = None,
    scale: Annotated[str, typer.Option(help="How large: quick takes minutes on two cores.")] = "quick",
    seed: Annotated[int, typer.Option(min=0, help="Of all random streams.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for study folders.")] = Path("runs/studies"),
    listed: Annotated[bool, typer.Option("--list", help="List the studies.")] = False,
) -> None:
    """Reproduce a result of the papers: tables in CSV, and pictures.

    The same line again goes on with an unfinished study and leaves a finished one alone.
    """
    from ..studies.registry import STUDIES

    if listed:
        width = max(map(len, STUDIES))
        for known, line in STUDIES.items():
            typer.echo(f"{known:<{width}}  {line}")
        return
    if name is None:
        raise UserError(f"name a study: {', '.join(STUDIES)}")

    from ..studies.run import run_study

    result = run_study(name, scale, seed, out)
    typer.echo(f"{result.folder}: {'was already done' if result.was_finished else 'done'}")
    for path in result.files:
        typer.echo(str(path))
