"""``whyadam sweep``: many runs of one config."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from .train import Overrides

if TYPE_CHECKING:
    from ..studies.sweeps.plan import Sweep
    from ..studies.sweeps.workers import Launcher


class LauncherName(StrEnum):
    """What does the runs."""

    PROCESSES = "processes"
    RAY = "ray"


def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML config, or a sweep file.")],
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=A,B,C", help="Values to try: --grid optimizer.lr=1e-3,3e-3; repeatable."),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="0..2 or 0,1,5; the config's seed by default.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time, one thread each: 1 by default; with ray, as many as fit."),
    ] = None,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="Folder for run folders and runs.csv.")] = Path("runs"),
    print_commands: Annotated[
        bool, typer.Option("--print-commands", help="Print one `whyadam train` line per run, and run nothing.")
    ] = False,
    launcher: Annotated[LauncherName, typer.Option(help="Processes of this machine, or Ray.")] = LauncherName.PROCESSES,
    address: Annotated[
        str | None, typer.Option(help="With ray, the cluster: auto or HOST:PORT; by default one of this machine.")
    ] = None,
    cpus_per_run: Annotated[
        float | None, typer.Option(min=0.01, help="With ray, cores and threads of a run; 1 by default.")
    ] = None,
    gpus_per_run: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="With ray, what a run takes of a GPU; by default one if it uses any."),
    ] = None,
) -> None:
    """Train every combination of a grid, seeds and named variations, each run in its own folder.

    The same line again does only what is missing. A run that fails leaves the others alone, and the exit code is 1.
    """
    planned = _read(file, grid or [], seeds, overrides or [])
    _say_what_differs(planned, to_stderr=print_commands)
    if print_commands:
        _print_commands(planned, out)
        return
    chosen = _launcher(launcher, jobs, address, cpus_per_run, gpus_per_run)

    from ..studies.sweeps.sweep import SweepInterruptedError, run_sweep, sweep_table

    try:
        result = run_sweep(planned, out, launcher=chosen)
    except SweepInterruptedError as interruption:
        typer.echo(str(interruption), err=True)
        raise typer.Exit(interruption.exit_code) from None
    typer.echo(sweep_table(result))
    typer.echo(str(out / "runs.csv"))
    failed = [outcome for outcome in result.outcomes if outcome.state == "failed"]
    for outcome in failed:
        typer.echo(f"{outcome.folder}: failed: {outcome.error}", err=True)
    raise typer.Exit(1 if failed else 0)


def _read(file: Path, grid: list[str], seeds: str | None, overrides: list[str]) -> Sweep:
    from ..configs.load import parse_override
    from ..studies.sweeps.plan import change_sweep, load_sweep, parse_grid

    given = load_sweep(file)
    changes = {
        "set": given.set | dict(map(parse_override, overrides)),
        "grid": given.grid | dict(map(parse_grid, grid)),
    }
    return change_sweep(given, **changes, **({} if seeds is None else {"seeds": seeds}))


def _say_what_differs(planned: Sweep, to_stderr: bool) -> None:
    """What the arms train with, before they do; and which keys of the config do not apply to what they name."""
    from ..studies.sweeps.plan import describe_arms, plan

    trials = plan(planned)
    for line in dict.fromkeys(line for trial in trials for line in trial.dropped):
        typer.echo(f"{planned.config}: {line}", err=True)
    for line in describe_arms(trials):
        typer.echo(line, err=to_stderr)


def _launcher(
    name: LauncherName, jobs: int | None, address: str | None, cpus_per_run: float | None, gpus_per_run: float | None
) -> Launcher:
    if name is LauncherName.RAY:
        from ..studies.sweeps.ray_workers import RayWorkers

        return RayWorkers(jobs, address, 1.0 if cpus_per_run is None else cpus_per_run, gpus_per_run)
    given = {"--address": address, "--cpus-per-run": cpus_per_run, "--gpus-per-run": gpus_per_run}
    for option, value in given.items():
        if value is not None:
            raise UserError(f"{option}: goes with --launcher ray")

    from ..studies.sweeps.workers import Workers

    return Workers(jobs or 1)


def _print_commands(planned: Sweep, out: Path) -> None:
    from ..studies.sweeps.sweep import known_trials

    trials, is_complete = known_trials(planned, out)
    for trial in trials:
        typer.echo(trial.command(out))
    if not is_complete:
        typer.echo("the runs of the second stage are known, and printed, when those of the first have ended", err=True)
