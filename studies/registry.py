"""The studies that ``whyadam reproduce`` knows: study files, and those with code of their own.

A study file is ``<name>.yaml`` in this room; ``study_file.py`` says what stands in it. A study with code is the module
of its name in ``coded/``, with two names in it: ``SCALES``, the settings of each scale, and
``study(folder: Path, scale: str, seed: int, watch: Watch) -> None``, which leaves tables (``*.csv``) and pictures in
the folder. It keeps what it has finished there (``coded.pieces.Pieces``), so that it can be interrupted.
"""

from __future__ import annotations

from pathlib import Path

from ..configs.load import read_yaml

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
