"""Verdicts for readers, and for programs.

Tables of text, as Markdown and as LaTeX.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .claims import Claim
from .judging import Verdict
from .statistics import Effect
from .summary import Row, write_table

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
"""How LaTeX spells the characters that mean something to it."""

MARKDOWN = re.compile(r"[\\|<*`~$\[\]]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")
"""What means something to Markdown within a cell; an underscore does so only at an end of a word."""


@dataclass(frozen=True)
class Table:
    """Cells of text.

    Attributes:
        columns: their names.
        rows: as many cells each.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """For a README or an issue."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(map(_markdown_cell, line)) + " |" for line in lines)

    def latex(self) -> str:
        """A ``tabular`` that needs no package; its text is UTF-8."""
        lines = [" & ".join(map(_latex_cell, line)) + r" \\" for line in (self.columns, *self.rows)]
        begin = rf"\begin{{tabular}}{{{'l' * len(self.columns)}}}"
        return "\n".join([begin, lines[0], r"\hline", *lines[1:], r"\end{tabular}"])


def _markdown_cell(text: str) -> str:
    return MARKDOWN.sub(r"\\\g<0>", " ".join(text.split()))


def _latex_cell(text: str) -> str:
    cell = "".join(LATEX.get(character, character) for character in " ".join(text.split()))
    # The end of the line before, \\, would take a star or a bracket for its own.
    return "{}" + cell if cell.startswith(("[", "*")) else cell


COLUMNS = (
    "verdict",
    "claim",
    "statement",
    "effect (95 % interval)",
    "claimed",
    "from",
    "tried",
    "scale",
    "of",
    "reason",
)


def verdict_table(verdicts: Sequence[Verdict], widest: int | None = None) -> Table:
    """One row a verdict.

    Args:
        verdicts: in this order.
        widest: statements and reasons are cut to so many characters; all of them by default.
    """
    return Table(COLUMNS, [_cells(verdict, widest) for verdict in verdicts])


def write_verdicts(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write verdicts as CSV, a row each, with all digits."""
    write_table(path, [_row(verdict) for verdict in verdicts])


def count_words(verdicts: Sequence[Verdict]) -> str:
    """How many verdicts of each kind there are, in words."""
    words = ("reproduced", "contradicted", "inconclusive")
    return ", ".join(f"{sum(verdict.verdict == word for verdict in verdicts)} {word}" for word in words)


def _cells(verdict: Verdict, widest: int | None) -> tuple[str, ...]:
    claim = verdict.claim
    return (
        verdict.verdict,
        claim.name,
        _shortened(claim.statement, widest),
        _with_unit(_interval(verdict.effect), claim) if verdict.effect else "",
        _claimed(claim),
        f"{verdict.samples} {verdict.sampled}" if verdict.sampled else "",
        _tried(verdict),
        verdict.scale,
        claim.claim,
        _shortened(verdict.reason, widest),
    )


def _row(verdict: Verdict) -> Row:
    claim, effect = verdict.claim, verdict.effect
    return {
        "name": claim.name,
        "claim": claim.claim,
        "study": claim.study,
        "scale": verdict.scale,
        "verdict": verdict.verdict,
        "effect": effect and effect.value,
        "ci_low": effect and effect.low,
        "ci_high": effect and effect.high,
        "claimed": claim.claimed,
        "margin": claim.margin,
        "unit": claim.unit,
        "samples": verdict.samples,
        "sampled": verdict.sampled,
        "tried": _tried(verdict),
        "reason": verdict.reason,
        "statement": claim.statement,
    }


def _interval(effect: Effect) -> str:
    return f"{_number(effect.value)} ({_number(effect.low)} to {_number(effect.high)})"


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.3g}"


def _claimed(claim: Claim) -> str:
    if claim.claimed == "within":
        low, high = claim.on_claimed_side
        return _with_unit(f"{_number(low)} to {_number(high)}", claim)
    return _with_unit(f"{'>' if claim.claimed == 'above' else '<'} {_number(claim.margin)}", claim)


def _with_unit(text: str, claim: Claim) -> str:
    return f"{text} {claim.unit}".rstrip()


def _tried(verdict: Verdict) -> str:
    """The settings tried of each side: one number where both had as many."""
    counts = [str(count) if count is not None else "none" for count in verdict.tried]
    if set(counts) <= {"none"}:
        return ""
    return " / ".join(dict.fromkeys(counts))


def _shortened(text: str, widest: int | None) -> str:
    return text if widest is None or len(text) <= widest else text[: widest - 1].rstrip() + "…"
