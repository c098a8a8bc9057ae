"""Summaries of the studies of the causes apart: heterogeneous perceptron, imbalance, and all of them.

In these studies every rule is given five learning rates, and more where the best of them lies at an end. ``tried`` is
the fewest that any rule of the study had: what was tried beyond a rate that had turned out worse helped no one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...figures.rows import select
from ..csv_tables import Row
from .finished import Finished, estimate
from .summary import SummaryRow


def heterogeneous_mlp(study: Finished) -> Iterator[SummaryRow]:
    """Final losses of SGD and Adam, and SGD's less Adam's, by contrast."""
    seeds, tuned = study.setting("seeds"), study.table("tuned")
    for row in tuned:
        subject = f"{_contrast(row)}/{row['optimizer']}"
        yield study.row(subject, "final_loss", estimate(row, seeds), seeds, **_tuning(tuned, [row]))
    for row in study.table("gaps"):
        used = _same(tuned, row, "sharpest", "contrast")
        yield study.row(_contrast(row), "gap", estimate(row, seeds), seeds, **_tuning(tuned, used))


def imbalance(study: Finished) -> Iterator[SummaryRow]:
    """SGD's and Signum's loss less Adam's, by model, exponent and frequency; and by how much it is more than at 0."""
    seeds, tuned, gaps = study.setting("seeds"), study.table("tuned"), study.table("gaps")
    cell = ("model", "batch", "exponent")
    for row in gaps:
        used = [run for run in _same(tuned, row, *cell) if run["optimizer"] in (row["optimizer"], "adam")]
        more = _tuning(tuned, used)
        subject = f"{row['model']}_{row['batch']}/s_{row['exponent']:g}/{row['optimizer']}".replace(" ", "_")
        if row["group"] == "all":
            yield study.row(subject, "gap", estimate(row, seeds), seeds, **more)
            change = estimate(row, seeds, prefix="change_", value="change")
            yield study.row(subject, "gap_change", change, seeds, **more)
        else:
            groups = {other["group"] for other in _same(gaps, row, *cell)} - {"all"}
            names = {min(groups): "most_frequent", max(groups): "rarest"}
            name = names.get(row["group"], f"group_{row['group']}")
            yield study.row(f"{subject}/{name}", "gap", estimate(row, seeds), seeds, **more)


def causes(study: Finished) -> Iterator[SummaryRow]:
    """SGD's loss less Adam's in each cell, and the effects of the causes on it."""
    seeds, tuned = study.setting("seeds"), study.table("tuned")
    for row in study.table("cells"):
        subject = f"{row['noise']}/contrast_{row['contrast']:g}/exponent_{row['exponent']:g}"
        used = _same(tuned, row, "noise", "contrast", "exponent")
        yield study.row(subject, "gap", estimate(row, seeds), seeds, **_tuning(tuned, used))
    for row in study.table("effects"):
        subject = row["effect"].replace(" ", "_")
        yield study.row(subject, "effect", estimate(row, seeds), seeds, **_tuning(tuned, tuned))


def _same(rows: list[Row], like: Row, *columns: str) -> list[Row]:
    return select(rows, **{column: like[column] for column in columns})


def _tuning(tuned: list[Row], used: list[Row]) -> dict[str, Any]:
    return {
        "tried": min(row["rates"] for row in tuned),
        "at_edge": any(row["at_edge"] == "True" for row in used),
        "unit": "nats",
    }


def _contrast(row: Row) -> str:
    return "none" if row["contrast"] == 1 else f"{row['sharpest']}_{row['contrast']:g}"
