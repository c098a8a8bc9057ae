"""From a study's name to a folder of tables and pictures.

The studies that ``whyadam reproduce`` knows: study files, and those with code of their own.

A study file is ``<name>.yaml`` in this room; ``study_file.py`` says what stands in it. A study with code is the module
of its name in ``coded/``, with two names in it: ``SCALES``, the settings of each scale, and
``study(folder: Path, scale: str, seed: int, track: Track) -> None``, which leaves tables (``*.csv``) and pictures in
the folder. It keeps what it has finished there (``coded.pieces.Pieces``), so that it can be interrupted.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from ..configs.load import read_yaml
from ..errors import UserError
from ..progress import track
from ..settings import nearest
from ..training.run_folder import RunFolder, describe_environment
from .summaries import SUMMARIES, summary
from .summary import write_summary

STUDIES = {
    "clipping_rates": "Error of SGD and of clipped SGD under heavy-tailed noise, against the number of steps.",
    "dimension": "Error of GClip over that of CClip, against the number of coordinates.",
    "lower_bound": "Errors on the coin-flip problem, beside the least that any method can reach.",
    "quadratics": "Iterations of SGD, Adam and clipping on quadratics whose blocks are alike, or not.",
    "causes": "SGD's loss less Adam's where noise tail, block heterogeneity and class imbalance are on or off.",
    "heterogeneous_mlp": "SGD and Adam on a perceptron whose layers' curvatures are set apart.",
    "imbalance": "SGD, Adam and sign descent where some classes are rare: losses by class frequency.",
}
"""One line of help by name of those with code; nothing is imported before a study is run."""


def study_files() -> dict[str, Path]:
    """The study files by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml")) if path.stem != "claims"}


def summary_of(path: Path) -> str:
    """The one line of a study file that says what it is about."""
    return str(read_yaml(path).get("about", ""))


@dataclass(frozen=True)
class StudyResult:
    """Where a study lies, and whether there was nothing left to do."""

    folder: Path
    was_finished: bool

    @property
    def files(self) -> list[Path]:
        """Its tables and pictures."""
        return sorted(path for path in self.folder.iterdir() if path.suffix in (".csv", ".png", ".pdf", ".svg"))


class Study(Protocol):
    """What ``run_study`` needs of a study."""

    @property
    def scales(self) -> Mapping[str, Any]:
        """By name, how large it can be."""
        ...

    def identity(self, scale: str, seed: int) -> str:
        """Text that changes with whatever may change the results."""
        ...

    def settings(self, scale: str, seed: int) -> dict[str, Any]:
        """What status.json keeps."""
        ...

    def device(self, scale: str) -> str:
        """Where it computes."""
        ...

    def run(self, folder: Path, scale: str, seed: int, jobs: int) -> None:
        """Do what is missing, and leave tables and pictures in the folder."""
        ...


class CodedStudy:
    """A study that is a module of ``coded/``; see ``settings.py``."""

    def __init__(self, name: str) -> None:
        self._module = import_module(f".coded.{name}", __package__)
        self.scales: Mapping[str, Any] = self._module.SCALES

    def identity(self, scale: str, seed: int) -> str:
        """The scale's settings."""
        return json.dumps(self.settings(scale, seed), sort_keys=True)

    def settings(self, scale: str, seed: int) -> dict[str, Any]:
        """The scale's settings."""
        return dict(self.scales[scale].model_dump(mode="json"))

    def device(self, scale: str) -> str:
        """Always the CPU."""
        return "cpu"

    def run(self, folder: Path, scale: str, seed: int, jobs: int) -> None:
        """Run the module's ``study``, in this process whatever ``jobs`` is."""
        self._module.study(folder, scale, seed, track)


def known_studies() -> list[str]:
    """The names of all studies: those with code of their own and those that are a file."""
    return sorted({*STUDIES, *study_files()})


def find_study(name: str) -> Study:
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
    """Run a study, go on with it, or leave it alone if it is finished.

    Args:
        name: of the study.
        scale: how large; each study has its own.
        seed: of all its random streams.
        out: the study's folder is ``OUT/<name>/<scale>-seed<seed>-<settings>``. It is named after a digest of the
            scale's settings, so a study whose settings have changed begins anew. The runs of study files lie in
            ``OUT/runs``.
        jobs: how many runs of a study file are done at a time.

    Raises:
        UserError: there is no such study or scale, runs have failed, or another living process works in the folder.
    """
    study = find_study(name)
    if scale not in study.scales:
        raise UserError(f"--scale {scale}: {name} has {', '.join(study.scales)}")
    digest = hashlib.blake2b(study.identity(scale, seed).encode(), digest_size=4).hexdigest()
    folder = RunFolder(out / name / f"{scale}-seed{seed}-{digest}")
    with folder.lock():
        if folder.is_finished():
            _add_summary(name, folder.path, scale)
            return StudyResult(folder.path, was_finished=True)
        start, before = time.perf_counter(), float(folder.read_status().get("seconds", 0.0))
        folder.write_status(
            state="running",
            study=name,
            scale=scale,
            seed=seed,
            settings=study.settings(scale, seed),
            device=study.device(scale),
            **describe_environment(),
        )
        state = "failed"
        try:
            study.run(folder.path, scale, seed, jobs)
            _add_summary(name, folder.path, scale)
            state = "done"
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        finally:
            folder.write_status(state=state, seconds=round(before + time.perf_counter() - start, 1))
    return StudyResult(folder.path, was_finished=False)


def _add_summary(name: str, folder: Path, scale: str) -> None:
    """Write summary.csv of a coded study where there is none yet; a study file writes its own."""
    path = folder / "summary.csv"
    if name in SUMMARIES and not path.exists():
        write_summary(path, summary(name, folder, scale))
