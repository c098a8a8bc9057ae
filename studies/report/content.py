"""A report of finished studies, or of runs: what the page of ``page.py`` shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ...errors import UserError
from ...figures.hessian import draw_blocks, draw_spectra
from ...figures.hessian_distances import draw_distances
from ...figures.hessian_runs import HessianRun, find_hessian
from ...figures.loss import draw_losses
from ...figures.noise import draw_noise
from ...figures.noise_runs import find_noise
from ...figures.runs import Run, find_runs, group_by_setting
from ...training.status import read_status
from ..verdicts.claims import load_claims
from ..verdicts.collected import newest_summaries, read_summaries, study_folders
from ..verdicts.judging import judge_all
from ..verdicts.tables import Table
from ..verdicts.verdict_table import count_words, verdict_table
from .page import Numbers, Picture, Section, write_page

PROVENANCE = ("what", "value")


def write_report(paths: Sequence[Path], out: Path) -> None:
    """Write a page about studies or runs.

    Args:
        paths: folders. One that holds studies at any depth stands for these, any other for the runs in it.
        out: the page.

    Raises:
        UserError: a folder holds neither, or something in it is damaged.
    """
    studies: list[Path] = []
    runs: list[Path] = []
    for path in paths:
        found = study_folders(path)
        studies += found
        runs += [] if found else [path]
    sections = [study_section(folder) for folder in dict.fromkeys(studies)]
    if runs:
        sections.append(runs_section(runs))
    rows = read_summaries(newest_summaries(studies))
    measured = {row.study for row in rows}
    verdicts = judge_all([claim for claim in load_claims() if claim.study in measured], rows)
    write_page(out, sections, verdict_table(verdicts) if verdicts else None, count_words(verdicts))


def study_section(folder: Path) -> Section:
    """Pictures, tables, settings and provenance of a study."""
    status = read_status(folder / "status.json")
    settings = status.pop("settings", None)
    notes = [] if status.get("state") == "done" else ["This study is not finished."]
    return Section(
        title=f"{status['study']}, {status.get('scale', '')}",
        provenance=Table(PROVENANCE, [("folder", str(folder)), *_flat(status)]),
        pictures=Picture.all_in(folder),
        tables=[Numbers.read(path) for path in sorted(folder.glob("*.csv"))],
        configs=[("settings", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))] if settings else [],
        notes=notes,
    )


def runs_section(paths: Sequence[Path]) -> Section:
    """Loss curves of runs, the noise and curvature of the first seed of each setting, and their configs."""
    runs = find_runs(paths)
    groups = group_by_setting(runs)
    first = [group.runs[0].path for group in groups]
    drawings: list[Callable[[Path], object]] = [lambda out: draw_losses(groups, out / "loss")]
    if noisy := [path for path in first if (path / "noise.csv").exists()]:
        drawings.append(lambda out: draw_noise(find_noise(noisy, "batch"), out / "noise"))
    if curved := [path for path in first if (path / "hessian").exists()]:
        drawings.append(lambda out: _draw_curvature(find_hessian(curved), out))
    pictures, notes = _drawn(drawings)
    return Section(
        title="Runs",
        provenance=Table(PROVENANCE, _provenance(runs)),
        pictures=pictures,
        tables=[Numbers.cut("runs", _run_table(runs)), Numbers.cut("evaluations", _evaluations(runs))]
        + [Numbers.read(path / "noise.csv") for path in noisy],
        configs=[(str(path), (path / "config.yaml").read_text(encoding="utf-8")) for path in first],
        notes=notes,
    )


def _drawn(drawings: Iterable[Callable[[Path], object]]) -> tuple[list[Picture], list[str]]:
    """The pictures, and why some could not be drawn."""
    pictures: list[Picture] = []
    notes: list[str] = []
    for draw in drawings:
        with TemporaryDirectory() as folder:
            try:
                draw(Path(folder))
            except UserError as error:
                notes.append(str(error))
            pictures += Picture.all_in(Path(folder))
    return pictures, notes


def _draw_curvature(runs: Sequence[HessianRun], out: Path) -> None:
    draw_blocks(runs, out / "blocks")
    draw_distances(runs, out / "js")
    if whole := [run for run in runs if run.full(run.steps[0]) is not None]:
        draw_spectra(whole, out / "spectra")


RUN_COLUMNS = ("state", "step", "last_train_loss", "last_eval_loss", "best_eval_loss", "seconds_training", "device")


def _run_table(runs: Sequence[Run]) -> Table:
    """What became of each run."""
    rows = [(str(run.path), *(_text(run.status.get(column)) for column in RUN_COLUMNS)) for run in runs]
    return Table(("run", *RUN_COLUMNS), rows)


def _evaluations(runs: Sequence[Run]) -> Table:
    """The points of the evaluation curves."""
    columns = ("step", "loss", "accuracy", "exact_match", "f1")
    rows = [
        (str(run.path), *(row[column] for column in columns))
        for run in runs
        for row in run.rows
        if row["split"] == "eval"
    ]
    return Table(("run", *columns), rows)


def _provenance(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What all of the runs were made with: every value that one of them has."""
    seen: dict[str, list[str]] = {}
    for run in runs:
        made_with = {name: run.status.get(name) for name in ("git_commit", "versions", "device")}
        for name, value in [*_flat(made_with), ("seeds", str(run.experiment.seed))]:
            seen.setdefault(name, []).append(value)
    seconds = sum(run.status.get("seconds_training", 0.0) for run in runs)
    return [*((name, ", ".join(dict.fromkeys(values))) for name, values in seen.items()), ("seconds", _text(seconds))]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and texts, of nested values with dots in their names."""
    found = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", _text(value)))
    return found


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
