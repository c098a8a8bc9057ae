"""A report of studies or of runs: one HTML page that needs no network, no script and no other file."""

from __future__ import annotations

import base64
import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ..errors import UserError
from ..figures.hessian import HessianRun, draw_blocks, draw_distances, draw_spectra, find_hessian
from ..figures.loss import draw_losses
from ..figures.noise import draw_noise, find_noise
from ..figures.runs import Run, find_runs, group_by_setting
from ..figures.tables import Table
from ..training.run_folder import read_status
from .claims import load_claims
from .judging import judge_all
from .run import newest_summaries, study_folders
from .summary import read_summaries
from .verdict_tables import count_words, verdict_table

MOST_ROWS = 200
"""Of a table on the page; the file it comes from has them all."""

MOST_BYTES = 1_000_000
"""Of an SVG on the page."""

MIME_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(frozen=True)
class Picture:
    """A picture with its bytes inside.

    Attributes:
        name: what it is called.
        source: a data URI. An SVG inside an image cannot clash with the names inside another one.
    """

    name: str
    source: str

    @classmethod
    def read(cls, path: Path) -> Picture:
        """An SVG or PNG file."""
        content = base64.b64encode(path.read_bytes()).decode("ascii")
        return cls(path.stem, f"data:{MIME_TYPES[path.suffix]};base64,{content}")

    @classmethod
    def all_in(cls, folder: Path) -> list[Picture]:
        """The pictures in a folder by name: as SVG, or as PNG where there is no SVG or it is too large."""
        chosen = {path.stem: path for path in folder.glob("*.png")}
        chosen |= {
            path.stem: path
            for path in folder.glob("*.svg")
            if path.stem not in chosen or path.stat().st_size <= MOST_BYTES
        }
        return [cls.read(chosen[name]) for name in sorted(chosen)]


@dataclass(frozen=True)
class Numbers:
    """A table with a name, and how many of its rows are left out."""

    name: str
    table: Table
    left_out: int = 0

    @classmethod
    def cut(cls, name: str, table: Table) -> Numbers:
        """The first rows of a table."""
        return cls(name, Table(table.columns, table.rows[:MOST_ROWS]), max(len(table.rows) - MOST_ROWS, 0))

    @classmethod
    def read(cls, path: Path) -> Numbers:
        """A CSV file, its numbers with six digits.

        Raises:
            UserError: it is empty, or no CSV file.
        """
        try:
            with path.open(newline="", encoding="utf-8") as file:
                lines = [tuple(map(_six_digits, line)) for line in csv.reader(file, strict=True)]
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path} is no CSV file in UTF-8: {error}") from None
        if not lines:
            raise UserError(f"{path} is empty")
        return cls.cut(path.name, Table(lines[0], lines[1:]))


@dataclass(frozen=True)
class Section:
    """A study, or some runs.

    Attributes:
        title: the heading.
        provenance: what it was made with: names and values.
        pictures: all of them.
        tables: the numbers behind the pictures.
        configs: names and texts.
        notes: what could not be shown.
    """

    title: str
    provenance: Table
    pictures: Sequence[Picture] = ()
    tables: Sequence[Numbers] = ()
    configs: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()


PROVENANCE = ("what", "value")


def write_report(paths: Sequence[Path], out: Path) -> None:
    """Write a page about studies or runs.

    Args:
        paths: folders. One that holds studies at any depth stands for these, any other for the runs in it.
        out: the page.

    Raises:
        UserError: a folder holds neither, or something in it is damaged.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = {path: study_folders(path) for path in paths}
    studies = [folder for folders in found.values() for folder in folders]
    runs = [path for path, folders in found.items() if not folders]
    sections = [study_section(folder) for folder in dict.fromkeys(studies)]
    if runs:
        sections.append(runs_section(runs))
    rows = read_summaries(newest_summaries(studies))
    measured = {row.study for row in rows}
    verdicts = judge_all([claim for claim in load_claims() if claim.study in measured], rows)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        sections=sections, verdicts=verdict_table(verdicts) if verdicts else None, count=count_words(verdicts)
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")


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
    if full := [run for run in runs if run.full(run.steps[0]) is not None]:
        draw_spectra(full, out / "spectra")


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


def _six_digits(text: str) -> str:
    """A number with a fraction in six digits; any other text as it is."""
    if "." not in text and "e" not in text:
        return text
    try:
        return f"{float(text):.6g}"
    except ValueError:
        return text


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
