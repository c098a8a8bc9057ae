"""``whyadam train``: one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DIVERGED_EXIT_CODE = 3

ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="A YAML config, or the name of one of `whyadam list configs`.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override any key: -s optimizer.lr=1e-3; repeatable."),
]
Seed = Annotated[int | None, typer.Option(help="Override the config's seed.")]


def train(
    config: ConfigFile,
    overrides: Overrides = None,
    seed: Seed = None,
    out: Annotated[Path, typer.Option(help="Folder for run folders.")] = Path("runs"),
    fail_on_divergence: Annotated[
        bool, typer.Option("--fail-on-divergence", help="Exit with code 3 if the run diverges.")
    ] = False,
) -> None:
    """Train one model with one optimizer, from a YAML config to a run folder of CSV files.

    The same line again resumes an unfinished run and leaves a finished one alone.
    """
    from ..configs.load import load_experiment

    given = list(overrides or [])
    experiment = load_experiment(config, given if seed is None else [*given, f"seed={seed}"])

    from ..training.run import run_experiment

    result = run_experiment(experiment, out)
    if result.is_first_rank:
        status = result.folder.read_status()
        already = "was already " if result.was_finished else ""
        loss = status.get("last_eval_loss")
        evaluation = "" if loss is None else f", evaluation loss {loss:.4f}"
        typer.echo(f"{result.folder.path}: {already}{result.state} at step {status['step']}{evaluation}")
    if result.state == "diverged" and fail_on_divergence:
        raise typer.Exit(DIVERGED_EXIT_CODE)
    raise typer.Exit(result.exit_code)
