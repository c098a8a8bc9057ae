"""Tables: cells of text for a terminal, as Markdown and as LaTeX; and the table of runs beside the loss curves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from statistics import mean, median

from ..errors import printable
from .runs import Group, Run

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
"""How LaTeX spells the characters that have a meaning in it."""

MARKDOWN = re.compile(r"[\\|<*`~$\[\]]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")
"""What has a meaning in a Markdown cell; an underscore has one only at an end of a word."""


@dataclass(frozen=True)
class Table:
    """Cells of text.

    Attributes:
        columns: their names.
        rows: as many cells each.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def text(self) -> str:
        """For a terminal: aligned columns. Control characters in a cell are escaped."""
        table = [tuple(map(printable, line)) for line in (self.columns, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
        return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])

    def markdown(self) -> str:
        """For a README or an issue."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(map(_markdown_cell, line)) + " |" for line in lines)

    def latex(self) -> str:
        """A ``tabular`` that needs no package; its text is UTF-8."""
        lines = [" & ".join(map(_latex_cell, line)) + r" \\" for line in (self.columns, *self.rows)]
        begin = rf"\begin{{tabular}}{{{'l' * len(self.columns)}}}"
        return "\n".join([begin, lines[0], r"\hline", *lines[1:], r"\end{tabular}"])


def aligned(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Lines of cells as text, their columns below each other and below the names of the columns."""
    return Table(tuple(columns), [tuple(line) for line in lines]).text()


def _markdown_cell(text: str) -> str:
    return MARKDOWN.sub(r"\\\g<0>", " ".join(text.split()))


def _latex_cell(text: str) -> str:
    cell = "".join(LATEX.get(character, character) for character in " ".join(text.split()))
    # The end of the line before, \\, would take a star or a bracket for its own.
    return "{}" + cell if cell.startswith(("[", "*")) else cell


def loss_cell(losses: Sequence[float]) -> str:
    """The median of final losses over seeds, and how many runs diverged: ``1.2345``, ``diverged (1 of 2)``, or both.

    Args:
        losses: infinite or NaN where a run diverged, which counts as infinitely bad; the median is left out if it is.
    """
    ranked = [loss if isfinite(loss) else inf for loss in losses]
    middle = median(ranked) if ranked else inf
    return ", ".join(filter(None, [f"{middle:.4f}" if middle < inf else "", diverged(ranked.count(inf), len(ranked))]))


def diverged(count: int, runs: int) -> str:
    """How many of some runs diverged, in the words of every table; empty where none did."""
    return f"diverged ({count} of {runs})" if count else ""


COLUMNS = ("optimizer", "lr", "seeds", "state", "steps", "train loss", "eval loss", "best eval loss", "seconds")


def loss_table(groups: Sequence[Group]) -> str:
    """One line per group of runs: means over seeds, with the range where there are several; best evaluation first."""
    return aligned(COLUMNS, map(_line, sorted(groups, key=_final_loss)))


def _line(group: Group) -> tuple[str, ...]:
    return (
        group.optimizer,
        "" if group.lr is None else f"{group.lr:g}",
        str(len(group.runs)),
        ",".join(sorted({run.status["state"] for run in group.runs})),
        _over_seeds(group.runs, "step", ".0f"),
        _last_loss(group.runs, "last_train_loss"),
        _last_loss(group.runs, "last_eval_loss"),
        _over_seeds(group.runs, "best_eval_loss", ".3f"),
        _over_seeds(group.runs, "seconds_training", ".0f"),
    )


def _last_loss(runs: Sequence[Run], key: str) -> str:
    """The mean over the runs that did not diverge: where the others stopped says nothing about them."""
    others = [run for run in runs if run.status["state"] != "diverged"]
    return ", ".join(filter(None, [_over_seeds(others, key, ".3f"), diverged(len(runs) - len(others), len(runs))]))


def _over_seeds(runs: Sequence[Run], key: str, form: str) -> str:
    values = [run.status[key] for run in runs if run.status.get(key) is not None]
    if not values:
        return ""
    middle, low, high = (format(value, form) for value in (mean(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def _final_loss(group: Group) -> float:
    finished = [run.status.get("last_eval_loss") for run in group.runs if run.status["state"] != "diverged"]
    losses = [loss for loss in finished if loss is not None]
    return mean(losses) if losses else float("inf")
