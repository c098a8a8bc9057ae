"""``whyadam reproduce``: one study, or all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError, printable


def reproduce(
    name: Annotated[str | None, typer.Argument(help="Which study; see --list.")] = None,
    scale: Annotated[str, typer.Option(help="How large: quick takes minutes on two cores.")] = "quick",
    seed: Annotated[int, typer.Option(min=0, help="Of all random streams.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Training runs at a time, one thread each.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for study folders.")] = Path("runs/studies"),
    every: Annotated[bool, typer.Option("--all", help="All studies that have this scale.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the studies.")] = False,
) -> None:
    """Reproduce a result of the papers: tables in CSV, and pictures.

    The same line again continues an unfinished study; of a finished one it only rebuilds summary.csv. Where runs fail,
    the summary has the others, and the exit code is 1.
    """
    if listed:
        _print_list()
        return
    from ..studies.run import FailedRunsError, known_studies

    try:
        if every:
            _run_all(scale, seed, jobs, out)
        elif name is None:
            raise UserError(f"name a study, or give --all: {', '.join(known_studies())}")
        else:
            _run(name, scale, seed, jobs, out)
    except FailedRunsError as error:
        typer.echo(f"whyadam: {printable(str(error))}", err=True)
        raise typer.Exit(1) from None


def _print_list() -> None:
    from ..studies.run import STUDIES, study_files, summary_of

    lines = STUDIES | {name: summary_of(path) for name, path in study_files().items()}
    width = max(map(len, lines))
    for known, line in sorted(lines.items()):
        typer.echo(f"{known:<{width}}  {line}")


def _run_all(scale: str, seed: int, jobs: int, out: Path) -> None:
    """One study after another; one that fails does not keep the others from running."""
    from ..studies.run import FailedRunsError, find_study, known_studies

    names = [name for name in known_studies() if scale in find_study(name).scales]
    if not names:
        raise UserError(f"--scale {scale}: no study has it")
    failures: dict[str, UserError] = {}
    for name in names:
        try:
            _run(name, scale, seed, jobs, out)
        except UserError as error:
            failures[name] = error
            typer.echo(f"{name}: {error}", err=True)
    if failures:
        kind = FailedRunsError if all(isinstance(error, FailedRunsError) for error in failures.values()) else UserError
        raise kind(f"not finished: {', '.join(failures)}; the same line continues them")


def _run(name: str, scale: str, seed: int, jobs: int, out: Path) -> None:
    from ..studies.run import run_study
    from ..studies.sweeps.sweep import SweepInterruptedError

    try:
        result = run_study(name, scale, seed, out, jobs)
    except SweepInterruptedError as interruption:
        typer.echo(f"{name}: {interruption}", err=True)
        raise typer.Exit(interruption.exit_code) from None
    typer.echo(f"{result.folder}: {'was already done' if result.was_finished else 'done'}")
    for path in result.files:
        typer.echo(str(path))
