"""``whyadam noise``: gradient noise at initialization and at saved checkpoints."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..noise.measure import NoiseMeasurement

ALL = "all"


def noise(
    target: Annotated[Path, typer.Argument(metavar="RUN|CONFIG", help="A run folder, or a YAML config.")],
    at: Annotated[
        str, typer.Option(metavar="all|STEPS", help="0 is the initialization, the rest are checkpoints: 0,100,200.")
    ] = "all",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a key: -s noise.batches=256; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for run folders, if a config is measured.")] = Path("runs"),
) -> None:
    """Measure the gradient noise of a run at its checkpoints, or of a config at its initialization.

    The run folder gets noise.csv and noise/step_*.npz; a step that is measured again is replaced.
    """
    steps = _parse_steps(at)
    from ..training.run_folder import read_target

    experiment, folder = read_target(target, overrides or [], out, "noise")

    from ..training.noise_meter import measure_run

    for measurement in measure_run(experiment, folder, steps):
        for line in _describe(measurement):
            typer.echo(f"step {measurement.step}, {line}")
    typer.echo(str(folder.path / "noise.csv"))


def _parse_steps(at: str) -> list[int] | None:
    if at == "all":
        return None
    try:
        return [int(step) for step in at.split(",")]
    except ValueError:
        raise UserError(f"--at {at}: should be all, or steps such as 0,100,200") from None


def _describe(measurement: NoiseMeasurement) -> Iterator[str]:
    """One line for the mini-batches, and one for single examples."""
    for batch_size in dict.fromkeys(row.batch_size for row in measurement.rows):
        rows = [row for row in measurement.rows if row.batch_size == batch_size]
        verdicts = {row.scope: row.verdict for row in rows if row.statistic == "overall"}
        if ALL not in verdicts:
            yield f"batches of {batch_size}: no noise"
            continue
        verdict = verdicts.pop(ALL)
        counts = ", ".join(f"{count} {name}" for name, count in Counter(verdicts.values()).most_common())
        scale = next((row.value for row in rows if row.scope == ALL and row.statistic == "noise_scale"), float("nan"))
        yield f"batches of {batch_size}: {verdict}, noise scale {scale:.4g}; layers: {counts}"
