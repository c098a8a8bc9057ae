"""``whyadam figure``: pictures from run folders; a new picture is a function here with its drawing code in figures/."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Run folders, or folders that hold them.")]
Step = Annotated[int | None, typer.Option(help="Which measured step; all of them by default.")]
Adam = Annotated[bool, typer.Option("--adam", help="The blocks as Adam's preconditioner makes them.")]
Out = Annotated[Path, typer.Option(help="Path of the picture; .png, .pdf and .svg are written.")]

app = typer.Typer(help="Draw pictures from run folders.", no_args_is_help=True)


@app.command("loss")
def loss(runs: Runs, out: Out = Path("loss")) -> None:
    """Draw train and evaluation loss against steps, with a band over seeds, and print the runs as a table."""
    from ..figures.loss import draw_losses, loss_table
    from ..figures.runs import find_runs, group_by_setting

    found = find_runs(runs)
    groups = group_by_setting(found)
    typer.echo(loss_table(groups))
    if left_out := len(found) - sum(len(group.compared) for group in groups):
        typer.echo(f"warning: {left_out} of {len(found)} runs are not finished and left out", err=True)
    _print(draw_losses(groups, out))


@app.command("sensitivity")
def sensitivity(runs: Runs, out: Out = Path("sensitivity")) -> None:
    """Draw final evaluation loss against learning rate, a line per optimizer, with a band over seeds."""
    from ..figures.runs import find_runs
    from ..figures.tuning import all_warnings, compare, draw_sensitivity

    found = find_runs(runs)
    comparisons = compare(found)
    for warning in all_warnings(found, comparisons):
        typer.echo(f"warning: {warning}", err=True)
    _print(draw_sensitivity(comparisons, out))


@app.command("noise")
def noise(
    runs: Runs,
    out: Annotated[
        Path, typer.Option(help="Where the pictures go; each adds its name: noise-histogram.png and so on.")
    ] = Path("noise"),
    step: Annotated[int | None, typer.Option(help="Which measured step; the last of each run by default.")] = None,
    examples: Annotated[
        bool, typer.Option("--examples", help="Draw the noise of single examples instead of mini-batches.")
    ] = False,
) -> None:
    """Draw gradient noise and print it as a table.

    The pictures are histograms, tails, running variance, evolution over training, and the tail index of each layer.
    """
    from ..figures.noise import draw_noise, find_noise, noise_table

    measured = find_noise(runs, "example" if examples else "batch")
    typer.echo(noise_table(measured))
    _print(draw_noise(measured, out, step))


@app.command("spectra")
def spectra(runs: Runs, out: Out = Path("spectra")) -> None:
    """Draw the spectrum of the whole Hessian at each measured step."""
    from ..figures.hessian import draw_spectra, find_hessian

    _print(draw_spectra(find_hessian(runs), out))


@app.command("blocks")
def blocks(runs: Runs, out: Out = Path("blocks"), step: Step = None, adam: Adam = False) -> None:
    """Draw the Hessian spectrum of every block, in network order."""
    from ..figures.hessian import draw_blocks, find_hessian

    _print(draw_blocks(find_hessian(runs), out, step, adam=adam))


@app.command("js")
def js(
    runs: Runs,
    out: Out = Path("js"),
    step: Step = None,
    measure: Annotated[str, typer.Option(help="A distance, as distances.csv spells it.")] = "js_distance",
    sigma: Annotated[
        str | None, typer.Option(help="Its smoothing, as distances.csv spells it; 1% if it needs one.")
    ] = None,
    adam: Adam = False,
) -> None:
    """Draw the distances between the spectra of all pairs of blocks as a heat map, next to their noise floors."""
    from ..figures.hessian import draw_distances, find_hessian

    _print(draw_distances(find_hessian(runs), out, step, measure=measure, sigma=sigma, adam=adam))


@app.command("heterogeneity")
def heterogeneity(
    runs: Runs,
    out: Out = Path("heterogeneity"),
    measure: Annotated[str, typer.Option(help="A distance, as measures.csv spells it.")] = "js_distance",
) -> None:
    """Draw and print, for several networks, how different their blocks are on average, next to the noise floor."""
    from ..figures.hessian import find_hessian
    from ..figures.heterogeneity import draw_heterogeneity, heterogeneity_table, mean_distances

    distances = mean_distances(find_hessian(runs), measure)
    typer.echo(heterogeneity_table(distances))
    _print(draw_heterogeneity(distances, measure, out))


def _print(paths: list[Path]) -> None:
    for path in paths:
        typer.echo(str(path))
