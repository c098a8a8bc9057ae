"""``whyadam report``: one HTML page about studies or runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError


def report(
    paths: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Folders of studies or runs, or folders that hold them.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("report.html"),
) -> None:
    """Write one page that needs no network: verdicts, pictures, tables, configs and what they were made with."""
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path}: no such folder")

    from ..studies.report import write_report

    write_report(paths, out)
    typer.echo(str(out))
