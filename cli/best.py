"""``whyadam best``: each optimizer's best learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .figure import Runs


def best(
    runs: Runs,
    out: Annotated[Path | None, typer.Option(help="Write the table as CSV, too.")] = None,
) -> None:
    """Print what each optimizer reached at every setting, and the best by the median over seeds.

    Warns where a comparison would not be fair: the best at the edge of its grid, unequal grids, unequal seeds.
    """
    from ..figures.runs import find_runs
    from ..figures.tuning import compare, is_finished, tuning_table, write_tuning

    found = find_runs(runs)
    comparisons = compare(found)
    typer.echo(tuning_table(comparisons))
    if unfinished := [run for run in found if not is_finished(run)]:
        typer.echo(f"warning: {len(unfinished)} of {len(found)} runs are not finished and left out", err=True)
    for comparison in comparisons:
        for warning in comparison.warnings():
            typer.echo(f"warning: {warning}", err=True)
    if out is not None:
        typer.echo(str(write_tuning(comparisons, out)))
