"""``whyadam verify``: which claims of the papers hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError

NOT_REPRODUCED = 4
"""Exit code of ``--strict``."""

STATEMENT_WIDTH = 50


def verify(
    summaries: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[SUMMARY...]", help="summary.csv files; those of finished studies by default."),
    ] = None,
    study: Annotated[str | None, typer.Option(help="Only the claims that this study decides.")] = None,
    scale: Annotated[str | None, typer.Option(help="Only summaries of this scale, such as quick.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder with finished studies.")] = Path("runs/studies"),
    claims: Annotated[Path | None, typer.Option(help="Your own claims in YAML; the papers' by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the verdicts as CSV too.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table with full statements.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 4 unless every claim is reproduced.")] = False,
) -> None:
    """Judge the papers' claims by what studies have measured: reproduced, contradicted or inconclusive.

    A verdict needs three seeds, equally many settings tried on both sides, no best setting at the edge of its grid, and
    finite values; it is inconclusive without, and says why.
    """
    from ..settings import nearest
    from ..studies.claims import SHIPPED, load_claims
    from ..studies.judging import judge_all
    from ..studies.run import newest_summaries, study_folders
    from ..studies.summary import read_summaries
    from ..studies.verdict_tables import count_words, verdict_table, write_verdicts

    known = load_claims(claims or SHIPPED)
    if study is not None and study not in (studies := {claim.study for claim in known}):
        raise UserError(f"--study {study}: no claim is about it; {nearest(study, sorted(studies))}")
    paths = summaries or newest_summaries(study_folders(runs))
    rows = [row for row in read_summaries(paths) if scale in (None, row.scale)]
    if not rows:
        at_scale = f" at scale {scale}" if scale else ""
        raise UserError(
            f"no summary{at_scale} of a finished study in {runs}; run whyadam reproduce, or give summary.csv files"
        )
    verdicts = judge_all([claim for claim in known if study in (None, claim.study)], rows)
    if markdown:
        typer.echo(verdict_table(verdicts).markdown())
    else:
        typer.echo(verdict_table(verdicts, STATEMENT_WIDTH).text())
    typer.echo(f"\n{count_words(verdicts)}")
    if out is not None:
        write_verdicts(out, verdicts)
        typer.echo(str(out))
    if strict and any(verdict.verdict != "reproduced" for verdict in verdicts):
        raise typer.Exit(NOT_REPRODUCED)
