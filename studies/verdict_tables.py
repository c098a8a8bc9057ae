"""Verdicts for readers, as a table, and for programs, as CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ..figures.tables import Table
from ..files import Row, write_csv
from .claims import Claim
from .judging import Verdict
from .statistics import Effect

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
    """One row per verdict.

    Args:
        verdicts: in this order.
        widest: statements and reasons are cut to so many characters; all of them by default.
    """
    return Table(COLUMNS, [_cells(verdict, widest) for verdict in verdicts])


def write_verdicts(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write verdicts as CSV, one row each, with all digits."""
    write_csv(path, [_row(verdict) for verdict in verdicts])


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
