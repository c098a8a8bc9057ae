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
    from ..figures.tuning import all_warnings, compare, tuning_table, write_tuning

    found = find_runs(runs)
    comparisons = compare(found)
    typer.echo(tuning_table(comparisons))
    for warning in all_warnings(found, comparisons):
        typer.echo(f"warning: {warning}", err=True)
    if out is not None:
        typer.echo(str(write_tuning(comparisons, out)))
