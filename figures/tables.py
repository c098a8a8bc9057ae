"""Tables of runs in plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import mean

from ..errors import printable
from .runs import Group, Run

COLUMNS = ("optimizer", "lr", "seeds", "state", "steps", "train loss", "eval loss", "best eval loss", "seconds")


def loss_table(groups: Sequence[Group]) -> str:
    """One line a group of runs: means over its seeds, with the range where there are several; best evaluation first."""
    ordered = sorted(groups, key=lambda group: _final_loss(group))
    return aligned(COLUMNS, map(_line, ordered))


def aligned(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Lines of cells as text, their columns below each other and below the names of the columns.

    Signs in a cell that a terminal would obey are written out.
    """
    table = [tuple(map(printable, line)) for line in (columns, *lines)]
    widths = [max(len(line[column]) for line in table) for column in range(len(columns))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join([texts[0], "-" * max(map(len, texts)), *texts[1:]])


def _line(group: Group) -> tuple[str, ...]:
    return (
        group.optimizer,
        "" if group.lr is None else f"{group.lr:g}",
        str(len(group.runs)),
        ",".join(sorted({run.status["state"] for run in group.runs})),
        _over_seeds(group, lambda run: run.status.get("step"), ".0f"),
        _over_seeds(group, lambda run: run.status.get("last_train_loss"), ".3f"),
        _over_seeds(group, lambda run: run.status.get("last_eval_loss"), ".3f"),
        _over_seeds(group, lambda run: run.status.get("best_eval_loss"), ".3f"),
        _over_seeds(group, lambda run: run.status.get("seconds_training"), ".0f"),
    )


def _over_seeds(group: Group, value_of: Callable[[Run], float | None], form: str) -> str:
    values = [value for run in group.runs if (value := value_of(run)) is not None]
    if not values:
        return ""
    middle, low, high = (format(value, form) for value in (mean(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def _final_loss(group: Group) -> float:
    finished = [run.status.get("last_eval_loss") for run in group.runs if run.status["state"] != "diverged"]
    losses = [loss for loss in finished if loss is not None]
    return mean(losses) if losses else float("inf")
