"""The studies that ``whyadam reproduce`` knows.

A study is the file of its name in this room, with two names in it: ``SCALES``, the settings of each scale, and
``study(folder: Path, scale: str, seed: int, watch: Watch) -> None``, which leaves tables (``*.csv``) and pictures in
the folder. It keeps what it has finished there (``pieces.Pieces``, or run folders), so that it can be interrupted.
"""

from __future__ import annotations

STUDIES = {
    "clipping_rates": "Error of SGD and of clipped SGD under heavy-tailed noise, against the number of steps.",
    "dimension": "Error of GClip over that of CClip, against the number of coordinates.",
    "lower_bound": "Errors on the coin-flip problem, beside the least that any method can reach.",
    "quadratics": "Iterations of SGD, Adam and clipping on quadratics whose blocks are alike, or not.",
    "causes": "SGD's loss less Adam's where noise tail, block heterogeneity and class imbalance are on or off.",
    "heterogeneous_mlp": "SGD and Adam on a perceptron whose layers' curvatures are set apart.",
    "imbalance": "SGD, Adam and sign descent where some classes are rare: losses by class frequency.",
}
"""One line of help by name; nothing is imported before a study is run."""
