"""From a study's name to a folder of tables, pictures and ``summary.csv``; and which of several folders counts.

``whyadam reproduce`` knows two kinds of studies: files, ``<name>.yaml`` beside this module (``study.py`` says what
stands in them), and modules in ``coded/`` with four names in them: ``SCALES``, the settings of each scale,
``tables(settings, parts, seed, track)``, which computes, ``draw(tables, folder)``, and ``summary(tables, settings,
row)``, the rows of ``summary.csv``. Finished parts are kept (``coded.tuned_runs.Parts``): a study can be interrupted.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..configs.load import read_yaml
from ..errors import UserError
from ..files import write_csv
from ..progress import track, untracked
from ..settings import nearest
from ..training.run_folder import RunFolder, describe_environment, read_status
from .summary import IncompleteError, SummaryRow, read_summary, write_summary

if TYPE_CHECKING:
    from .study import DeclaredStudy

STUDIES = {
    "clipping_rates": "Error of SGD and of clipped SGD under heavy-tailed noise, against the number of steps.",
    "dimension": "Error of GClip over that of CClip, against the number of coordinates.",
    "lower_bound": "Errors on the coin-flip problem, beside the least that any method can reach.",
    "quadratics": "Iterations of SGD, Adam and clipping on quadratics whose blocks are alike, or not.",
    "causes": "SGD's loss minus Adam's where noise tail, block heterogeneity and class imbalance are on or off.",
    "heterogeneous_mlp": "SGD and Adam on a perceptron whose layers differ in curvature.",
    "imbalance": "SGD, Adam and sign descent where some classes are rare: losses by class frequency.",
}
"""One line of help by name of those with code; nothing is imported before a study is run."""


class FailedRunsError(UserError):
    """Runs of a study have failed, through no mistake in a config; the others are in its summary."""


@dataclass(frozen=True)
class StudyResult:
    """Where a study lies, and whether there was nothing left to do."""

    folder: Path
    was_finished: bool

    @property
    def files(self) -> list[Path]:
        """Its tables and pictures."""
        return sorted(path for path in self.folder.iterdir() if path.suffix in (".csv", ".png", ".pdf", ".svg"))


class CodedStudy:
    """A study that is a module of ``coded/``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._module = import_module(f".coded.{name}", __package__)
        self.scales: Mapping[str, Any] = self._module.SCALES

    def identity(self, scale: str, seed: int) -> str:
        """Text that changes with everything that may change the results: the scale's settings."""
        return json.dumps(self.settings(scale, seed), sort_keys=True)

    def settings(self, scale: str, seed: int) -> dict[str, Any]:
        """What status.json keeps."""
        return dict(self.scales[scale].model_dump(mode="json"))

    def device(self, scale: str) -> str:
        """Always the CPU."""
        return "cpu"

    def run(self, folder: Path, scale: str, seed: int, jobs: int) -> tuple[list[SummaryRow], str | None]:
        """Compute what is missing, in this process for any ``jobs``; write tables and pictures.

        Returns:
            The rows of the summary, and None: no run fails by itself here.
        """
        from .coded.tuned_runs import Parts

        settings = self.scales[scale]
        tables = self._module.tables(settings, Parts(folder), seed, track)
        for name, rows in tables.items():
            write_csv(folder / f"{name}.csv", rows)
        self._module.draw(tables, folder)
        return self._summary(tables, scale), None

    def reread(self, folder: Path, scale: str, seed: int) -> list[SummaryRow]:
        """The rows of the summary from finished parts alone.

        Raises:
            IncompleteError: a part is missing.
        """
        from .coded.tuned_runs import Parts

        return self._summary(
            self._module.tables(self.scales[scale], Parts(folder, kept_only=True), seed, untracked), scale
        )

    def _summary(self, tables: Mapping[str, Any], scale: str) -> list[SummaryRow]:
        row = partial(SummaryRow.of_interval, self._name, scale)
        return list(self._module.summary(tables, self.scales[scale], row))


def study_files() -> dict[str, Path]:
    """The study files by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml")) if path.stem != "claims"}


def summary_of(path: Path) -> str:
    """The one line of a study file that says what it is about."""
    return str(read_yaml(path).get("about", ""))


def known_studies() -> list[str]:
    """The names of all studies: those with code of their own and those that are a file."""
    return sorted({*STUDIES, *study_files()})


def find_study(name: str) -> CodedStudy | DeclaredStudy:
    """The study of that name.

    Raises:
        UserError: there is none, or its file is damaged.
    """
    from .study import DeclaredStudy, load_study

    if name in STUDIES:
        return CodedStudy(name)
    if name in (files := study_files()):
        return DeclaredStudy(name, load_study(files[name]))
    raise UserError(f"study {name} is not known; {nearest(name, known_studies())}")


def run_study(name: str, scale: str, seed: int, out: Path, jobs: int = 1) -> StudyResult:
    """Run a study, continue it, or, if it is finished, only rebuild its ``summary.csv`` from what it has left.

    Args:
        name: of the study.
        scale: how large; each study has its own.
        seed: of all its random streams.
        out: the study's folder is ``OUT/<name>/<scale>-seed<seed>-<digest>``, with a digest of the scale's settings: a
            study whose settings have changed begins anew. The runs of study files lie in ``OUT/runs``.
        jobs: how many runs of a study file are done at a time.

    Raises:
        UserError: there is no such study or scale, or another living process works in the folder.
        FailedRunsError: runs have failed; the summary has the others, and a row for each that is missing.
    """
    study = find_study(name)
    if scale not in study.scales:
        raise UserError(f"--scale {scale}: {name} has {', '.join(study.scales)}")
    digest = _digest(study, scale, seed)
    folder = RunFolder(out / name / f"{scale}-seed{seed}-{digest}")
    summary = folder.path / "summary.csv"
    with folder.lock():
        before = folder.read_status()
        if before.get("state") == "done":
            try:
                _write(summary, study.reread(folder.path, scale, seed), before.get("finished", ""), digest)
            except IncompleteError as error:
                print(f"{summary} stays as it is: {error}", file=sys.stderr)
            return StudyResult(folder.path, was_finished=True)
        start = time.perf_counter()
        settings, device = study.settings(scale, seed), study.device(scale)
        made_with = {"settings": settings, "device": device, **describe_environment()}
        folder.write_status(state="running", study=name, scale=scale, seed=seed, **made_with)
        ending = {"state": "failed"}
        try:
            rows, failure = study.run(folder.path, scale, seed, jobs)
            made = datetime.now(UTC).isoformat(timespec="seconds")
            _write(summary, rows, made, digest)
            if failure:
                raise FailedRunsError(failure)
            ending = {"state": "done", "finished": made}
        except KeyboardInterrupt:
            ending = {"state": "interrupted"}
            raise
        finally:
            seconds = float(before.get("seconds", 0.0)) + time.perf_counter() - start
            folder.write_status(**ending, seconds=round(seconds, 1))
    return StudyResult(folder.path, was_finished=False)


def _digest(study: CodedStudy | DeclaredStudy, scale: str, seed: int) -> str:
    return hashlib.blake2b(study.identity(scale, seed).encode(), digest_size=4).hexdigest()


def _write(path: Path, rows: Iterable[SummaryRow], made: str, digest: str) -> None:
    stamped = [replace(row, made=made, settings=digest) for row in rows]
    if stamped:
        write_summary(path, stamped)


def study_folders(path: Path) -> list[Path]:
    """The folders of studies at or below a folder, finished or not, in order of path.

    Raises:
        UserError: a status.json cannot be read.
    """
    statuses = [path / "status.json"] if (path / "status.json").exists() else sorted(path.glob("**/status.json"))
    return [status.parent for status in statuses if "study" in read_status(status)]


def newest_summaries(folders: Iterable[Path]) -> list[Path]:
    """One summary.csv per study and scale: what counts where a study was done several times.

    A finished study counts before one of which runs have failed, then one that was made with the study's present
    settings, then the one that was made last; its summary says when and with which settings that was.

    Raises:
        UserError: a summary cannot be read, or two have nothing by which to choose.
    """
    candidates: dict[tuple[str, str], list[tuple[Path, dict[str, Any]]]] = {}
    for folder in folders:
        status = read_status(folder / "status.json")
        if status.get("state") in ("done", "failed") and (folder / "summary.csv").exists():
            key = status["study"], status.get("scale", "")
            candidates.setdefault(key, []).append((folder / "summary.csv", status))
    return sorted(_newest(study, scale, found) for (study, scale), found in candidates.items())


def _newest(study: str, scale: str, found: list[tuple[Path, dict[str, Any]]]) -> Path:
    if len(found) == 1:
        return found[0][0]
    ranks = []
    for path, status in found:
        rows = read_summary(path)
        made, digest = (max((getattr(row, key) for row in rows), default="") for key in ("made", "settings"))
        digest = digest or path.parent.name.rpartition("-")[2]
        is_present = digest in _present_digests(study, scale, status.get("seed", 0))
        ranks.append(((status["state"] == "done", is_present, made), path))
    best = max(rank for rank, _ in ranks)
    first, *others = [path for rank, path in ranks if rank == best]
    if others:
        raise UserError(
            f"{first} and {others[0]}: both are of {study} at scale {scale}, and made at the same time; give one"
        )
    return first


def _present_digests(study: str, scale: str, seed: int) -> Iterator[str]:
    """The digest of the study as it is now; none if it is not known any more."""
    try:
        yield _digest(find_study(study), scale, seed)
    except (UserError, KeyError):
        return
