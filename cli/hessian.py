"""``whyadam hessian``: curvature at initialization and at saved checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError

if TYPE_CHECKING:
    from ..hessian.record import HessianRecord, ModelRow
    from ..hessian.settings import Moment


def hessian(
    target: Annotated[Path, typer.Argument(metavar="RUN|CONFIG", help="A run folder, or a YAML config.")],
    at: Annotated[
        str,
        typer.Option(
            metavar="all|MOMENTS", help="0 is the initialization, the rest are checkpoints: 0,100 or 0,50%,100%."
        ),
    ] = "all",
    full: Annotated[bool, typer.Option("--full", help="Measure the full Hessian too: hessian.full.")] = False,
    blocks: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="weights, default, heads, neurons, or names of blocks; repeatable."),
    ] = None,
    processes: Annotated[int | None, typer.Option(help="Blocks measured at the same time, on a CPU.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a key: -s hessian.steps=50; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for run folders, if a config is measured.")] = Path("runs"),
) -> None:
    """Measure the Hessian spectra of a run at its checkpoints, or of a config at its initialization.

    The run folder gets hessian/step_*/. The same line again resumes an unfinished measurement and leaves a
    finished one alone.
    """
    moments = _parse_moments(at)
    given = list(overrides or [])
    if full:
        given.append("hessian.full=true")
    if blocks:
        given.append(f"hessian.blocks={json.dumps(blocks[0] if len(blocks) == 1 else blocks)}")
    if processes is not None:
        given.append(f"hessian.processes={processes}")
    from ..training.run_folder import read_target

    experiment, folder = read_target(target, given, out, "hessian")

    from ..hessian.record import HessianRecord
    from ..training.hessian_meter import measure_run

    record = HessianRecord(folder.path)
    for step in measure_run(experiment, folder, moments):
        batch_norm = record.how(step).get("batch_norm")
        with_statistics = f", BatchNorm with {batch_norm} statistics" if batch_norm else ""
        typer.echo(f"step {step}, {_count(record, step)}{with_statistics}: {_describe(record.model(step))}")
        typer.echo(str(record.path(step)))


def _count(record: HessianRecord, step: int) -> str:
    names = [row["block"] for row in record.blocks(step)]
    blocks = f"{len(names) - names.count('full')} blocks"
    return f"{blocks} and the full Hessian" if "full" in names else blocks


def _parse_moments(at: str) -> list[Moment] | None:
    from pydantic import TypeAdapter, ValidationError

    from ..hessian.settings import Moment

    if at == "all":
        return None
    try:
        return TypeAdapter(list[Moment]).validate_python(
            [int(part) if part.isdigit() else part for part in at.split(",")]
        )
    except ValidationError:
        raise UserError(f"--at {at}: should be all, or moments such as 0,100 or 0,50%,100%") from None


def _describe(rows: list[ModelRow]) -> str:
    distances = [row for row in rows if row.measure == "js_distance" and row.value is not None]
    return (
        "; ".join(f"JS0 {row.value:.3f}, noise floor {row.noise_floor:.3f} (sigma {row.sigma})" for row in distances)
        or "no pair of blocks to compare"
    )
