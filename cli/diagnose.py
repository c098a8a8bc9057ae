"""``whyadam diagnose``: measures of an untrained network, beside networks that were trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError

if TYPE_CHECKING:
    from ..studies.diagnosis.subject import Subject


def diagnose(
    config: Annotated[Path | None, typer.Argument(help="A YAML config; or give --model, --data and --loss.")] = None,
    model: Annotated[str | None, typer.Option(metavar="MODULE:NAME", help="Function that builds the model.")] = None,
    data: Annotated[
        str | None, typer.Option(metavar="MODULE:NAME", help="Function that returns batches, anew at each call.")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", help="From model and batch to the summed loss and the number of terms."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a key of the config.")
    ] = None,
    batches: Annotated[int, typer.Option(min=8, help="Samples of the gradient noise.")] = 64,
    probes: Annotated[int, typer.Option(min=2, help="Random vectors per block.")] = 4,
    steps: Annotated[int, typer.Option(min=2, help="Lanczos steps, that is Hessian products, per probe.")] = 20,
    blocks: Annotated[
        list[str] | None,
        typer.Option(metavar="N|GLOB", help="N weight matrices spread over the network (16), or names; repeatable."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the model's initialization and all that is random, with --model.")
    ] = 0,
    compare_with: Annotated[
        Path | None, typer.Option(help="summary.csv of a study blocks_and_gap of your own; the shipped one by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for results; runs/diagnose/NAME by default.")] = None,
) -> None:
    """Measure an untrained network's gradient noise, curvature and labels, and say what such values meant elsewhere.

    The folder gets diagnosis.json and a picture. Nothing is trained: it takes some hundred gradients and some
    thousand products with blocks of the Hessian.
    """
    from ..figures.predictors import draw_diagnosis
    from ..studies.diagnosis import measuring, report

    networks = report.read_networks(compare_with or report.SHIPPED)
    subject = _subject(config, overrides or [], model, data, loss, seed)
    try:
        plan = measuring.make_plan(
            subject, batches=batches, probes=probes, steps=steps, blocks=_parse_blocks(blocks or ["16"])
        )
    except UserError as error:
        raise UserError(str(error).replace("hessian.blocks:", "--blocks:")) from None
    typer.echo(f"{subject.name}: {report.describe_plan(plan)}")
    diagnosis = measuring.diagnose(subject, plan)
    comparisons = report.compare(diagnosis.values, networks)
    words = [*report.sentences(diagnosis, comparisons), *report.uncertainty(networks, len(comparisons))]
    typer.echo(report.describe_cost(diagnosis))
    typer.echo(f"\n{report.measured_table(diagnosis)}\n\n{report.comparison_table(comparisons)}\n")
    for sentence in words:
        typer.echo(sentence)

    folder = out or Path("runs/diagnose") / subject.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "diagnosis.json"
    path.write_bytes(report.as_json(diagnosis, comparisons, words))
    drawn = draw_diagnosis(report.panels(diagnosis, comparisons, networks), networks.gap, folder / "diagnosis")
    for written in (path, *drawn):
        typer.echo(str(written))


def _subject(
    config: Path | None, overrides: list[str], model: str | None, data: str | None, loss: str | None, seed: int
) -> Subject:
    named = {"--model": model, "--data": data, "--loss": loss}
    if config is not None:
        if given := [option for option, name in named.items() if name is not None]:
            raise UserError(f"{given[0]}: leave it out with a config, which names its own; -s changes the config")
        from ..configs.load import load_experiment
        from ..studies.diagnosis.subject import subject_of_config

        return subject_of_config(load_experiment(config, overrides), str(config))
    if overrides:
        raise UserError(f"-s {overrides[0]}: changes a config, but none is given")
    if model is None or data is None or loss is None:
        missing = next(option for option, name in named.items() if name is None)
        raise UserError(f"{missing}: missing; give --model, --data and --loss, or a config file")
    import sys

    from ..studies.diagnosis.subject import subject_of_functions

    # As with `python -m`, modules in the working folder are found.
    sys.path.insert(0, str(Path.cwd()))
    return subject_of_functions(model, data, loss, seed)


def _parse_blocks(blocks: list[str]) -> int | list[str]:
    if len(blocks) == 1 and blocks[0].isdecimal():
        if int(blocks[0]) < 2:
            raise UserError(f"--blocks {blocks[0]}: should be at least 2, since blocks are compared with each other")
        return int(blocks[0])
    return blocks
