"""The noise of runs as a table in plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .noise_layers import TAIL_INDEX
from .noise_runs import NoiseRun
from .runs import labels
from .table import aligned

COLUMNS = (
    "run",
    "step",
    "samples",
    "verdict",
    "p",
    "tail index (95 % interval)",
    "of Gaussian noise",
    "V moves by",
    "noise scale",
    "layers",
)
MOVES = "running_variance/second_half_range"


def noise_table(runs: Sequence[NoiseRun]) -> str:
    """One line a run and measured step.

    The verdict and its p-value are those of the whole model; the tail index is Hill's, of the largest fifth of the
    noise norms, beside the range of the same on Gaussian surrogates. ``V moves by`` is how far the running variance
    still moves over the second half of the samples, as a share of it. Of the layers, there are so many of each verdict.
    """
    return aligned(
        COLUMNS, (_line(run, label, step) for run, label in zip(runs, labels(runs), strict=True) for step in run.steps)
    )


def _line(run: NoiseRun, label: str, step: int) -> tuple[str, ...]:
    overall, index, moves, scale = (run.rows(step, name) for name in ("overall", TAIL_INDEX, MOVES, "noise_scale"))
    samples = next(iter(moves.values()))["samples"]
    if "all" not in overall:
        return label, str(step), samples, "no noise", *[""] * 6
    verdicts = Counter(row["verdict"] for scope, row in overall.items() if scope != "all")
    tail = index["all"]
    return (
        label,
        str(step),
        samples,
        overall["all"]["verdict"],
        f"{float(overall['all']['value']):.3f}",
        f"{float(tail['value']):.1f} ({_range(tail, 'ci')})",
        _range(tail, "control"),
        f"{float(moves['all']['value']):.1%}",
        f"{float(scale['all']['value']):.3g}" if "all" in scale else "",
        ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common()),
    )


def _range(row: dict[str, str], what: str) -> str:
    ends = (row[f"{what}_low"], row[f"{what}_high"])
    return " to ".join("?" if end == "" else f"{float(end):.1f}" for end in ends)
