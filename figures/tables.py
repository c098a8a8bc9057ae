"""Plain-text tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from statistics import mean, median

from ..errors import printable


def aligned(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Format lines of cells as text with aligned columns and a header; control characters are escaped."""
    table = [tuple(map(printable, line)) for line in (columns, *lines)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    texts = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
    return "\n".join([texts[0], "-" * max(map(len, texts)), *texts[1:]])


def over_seeds(values: Sequence[float], form: str) -> str:
    """The mean over seeds, with minimum and maximum where their texts differ; empty without values."""
    if not values:
        return ""
    middle, low, high = (format(value, form) for value in (mean(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def diverged(count: int, seeds: int) -> str:
    """The word for a loss that is infinite because ``count`` of the seeds diverged."""
    return f"diverged ({count} of {seeds})" if seeds > 1 else "diverged"


def median_or_diverged(losses: Sequence[float], form: str = ".4f") -> str:
    """The median over seeds, or how many of them diverged (have an infinite or NaN loss) if it is infinite."""
    finite = [loss for loss in losses if isfinite(loss)]
    middle = median(loss if isfinite(loss) else float("inf") for loss in losses)
    return format(middle, form) if isfinite(middle) else diverged(len(losses) - len(finite), len(losses))
