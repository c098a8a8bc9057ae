"""``whyadam figure``: pictures out of run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Draw pictures from run folders.", no_args_is_help=True)


@app.callback()
def figure() -> None:
    """Draw pictures from run folders."""


@app.command("loss")
def loss(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Run folders, or folders that hold them.")],
    out: Annotated[Path, typer.Option(help="Where the picture goes; .png and .pdf are written.")] = Path("loss"),
) -> None:
    """Draw train and evaluation loss against steps, with a band over seeds, and print the runs as a table."""
    from ..figures.loss import draw_losses
    from ..figures.runs import find_runs, group_by_setting
    from ..figures.table import loss_table

    groups = group_by_setting(find_runs(runs))
    typer.echo(loss_table(groups))
    for path in draw_losses(groups, out):
        typer.echo(str(path))


@app.command("noise")
def noise(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Run folders, or folders that hold them.")],
    out: Annotated[
        Path, typer.Option(help="Where the pictures go; each adds its name: noise-histogram.png and so on.")
    ] = Path("noise"),
    step: Annotated[int | None, typer.Option(help="Which measured step; the last of each run by default.")] = None,
    examples: Annotated[
        bool, typer.Option("--examples", help="Draw the noise of single examples instead of mini-batches.")
    ] = False,
) -> None:
    """Draw gradient noise: histograms, tails, running variance, evolution over training, tail index of each layer."""
    from ..figures.noise import draw_noise
    from ..figures.noise_runs import find_noise

    for path in draw_noise(find_noise(runs, "example" if examples else "batch"), out, step):
        typer.echo(str(path))
