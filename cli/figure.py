"""``whyadam figure``: pictures out of run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Run folders, or folders that hold them.")]
Step = Annotated[int | None, typer.Option(help="Which measured step; all of them by default.")]
Adam = Annotated[bool, typer.Option("--adam", help="The blocks as Adam's preconditioner makes them.")]

app = typer.Typer(help="Draw pictures from run folders.", no_args_is_help=True)


@app.callback()
def figure() -> None:
    """Draw pictures from run folders."""


@app.command("loss")
def loss(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="Path of the picture; .png, .pdf and .svg are written.")] = Path("loss"),
) -> None:
    """Draw train and evaluation loss against steps, with a band over seeds, and print the runs as a table."""
    from ..figures.loss import draw_losses
    from ..figures.runs import find_runs, group_by_setting
    from ..figures.tables import loss_table

    groups = group_by_setting(find_runs(runs))
    typer.echo(loss_table(groups))
    for path in draw_losses(groups, out):
        typer.echo(str(path))


@app.command("sensitivity")
def sensitivity(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="Path of the picture; .png, .pdf and .svg are written.")] = Path(
        "sensitivity"
    ),
) -> None:
    """Draw final evaluation loss against learning rate, a line an optimizer, with a band over seeds."""
    from ..figures.runs import find_runs
    from ..figures.tuning import all_warnings, compare, draw_sensitivity

    found = find_runs(runs)
    comparisons = compare(found)
    for warning in all_warnings(found, comparisons):
        typer.echo(f"warning: {warning}", err=True)
    for path in draw_sensitivity(comparisons, out):
        typer.echo(str(path))


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
    for path in draw_noise(measured, out, step):
        typer.echo(str(path))


@app.command("spectra")
def spectra(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="Path of the picture; .png, .pdf and .svg are written.")] = Path("spectra"),
) -> None:
    """Draw the spectrum of the whole Hessian at each measured step."""
    from ..figures.hessian import draw_spectra, find_hessian

    for path in draw_spectra(find_hessian(runs), out):
        typer.echo(str(path))


@app.command("blocks")
def blocks(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="Path of the picture; .png, .pdf and .svg are written.")] = Path("blocks"),
    step: Step = None,
    adam: Adam = False,
) -> None:
    """Draw the Hessian spectrum of every block, in the order of the network."""
    from ..figures.hessian import draw_blocks, find_hessian

    for path in draw_blocks(find_hessian(runs), out, step, adam=adam):
        typer.echo(str(path))


@app.command("js")
def js(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="Path of the picture; .png, .pdf and .svg are written.")] = Path("js"),
    step: Step = None,
    measure: Annotated[str, typer.Option(help="A distance, as distances.csv spells it.")] = "js_distance",
    sigma: Annotated[
        str | None, typer.Option(help="Its smoothing, as distances.csv spells it; 1% if it needs one.")
    ] = None,
    adam: Adam = False,
) -> None:
    """Draw the distances between the spectra of all pairs of blocks as a heat map, beside their noise floors."""
    from ..figures.hessian import draw_distances, find_hessian

    for path in draw_distances(find_hessian(runs), out, step, measure=measure, sigma=sigma, adam=adam):
        typer.echo(str(path))


@app.command("heterogeneity")
def heterogeneity(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="Path of the picture; .png, .pdf and .svg are written.")] = Path(
        "heterogeneity"
    ),
    measure: Annotated[str, typer.Option(help="A distance, as measures.csv spells it.")] = "js_distance",
) -> None:
    """Draw and print, for several networks, how unlike their blocks are on average, beside the noise floor."""
    from ..figures.hessian import find_hessian
    from ..figures.heterogeneity import draw_heterogeneity, heterogeneity_table, mean_distances

    distances = mean_distances(find_hessian(runs), measure)
    typer.echo(heterogeneity_table(distances))
    for path in draw_heterogeneity(distances, measure, out):
        typer.echo(str(path))
