"""Tables of what was tried of each optimizer."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path

from .table import aligned
from .tried import Comparison, Rule, Setting

COLUMNS = ("optimizer", "setting", "seeds", "diverged", "median eval loss", "range", "")
CSV_COLUMNS = (
    "runs",
    "model",
    "data",
    "optimizer",
    "lr",
    "setting",
    "seeds",
    "diverged",
    "median_loss",
    "lowest_loss",
    "highest_loss",
    "best",
    "at_edge",
    "tried",
)


def tuning_table(comparisons: Sequence[Comparison]) -> str:
    """A table a comparison: one line a setting, with a mark at the best of each optimizer."""
    return "\n\n".join(f"{comparison.label}\n{aligned(COLUMNS, _lines(comparison))}" for comparison in comparisons)


def write_tuning(comparisons: Sequence[Comparison], path: Path) -> Path:
    """Write one row a setting as CSV; a loss that is infinite stands for a diverged run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for comparison in comparisons:
            writer.writerows(_rows(comparison))
    return path


def _lines(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    for rule in comparison.rules:
        for setting in rule.settings:
            finite = [loss for loss in setting.losses if loss < inf]
            spread = f"{min(finite):.4f} to {max(finite):.4f}" if len(finite) > 1 else ""
            yield (
                rule.name,
                setting.describe(),
                str(len(setting.losses)),
                str(len(setting.losses) - len(finite)),
                f"{setting.median:.4f}" if setting.median < inf else "diverged",
                spread,
                _mark(rule, setting),
            )


def _mark(rule: Rule, setting: Setting) -> str:
    if setting is not rule.best or setting.median == inf:
        return ""
    return "best, at the edge of the grid" if rule.edges else "best"


def _rows(comparison: Comparison) -> Iterator[dict[str, object]]:
    experiment = comparison.experiment
    for rule in comparison.rules:
        for setting in rule.settings:
            losses = setting.losses
            yield {
                "runs": comparison.label,
                "model": experiment.model.name,
                "data": experiment.data.name,
                "optimizer": rule.name,
                "lr": setting.varied.get("lr"),
                "setting": setting.describe(),
                "seeds": len(losses),
                "diverged": losses.count(inf),
                "median_loss": setting.median,
                "lowest_loss": min(losses),
                "highest_loss": max(losses),
                "best": str(setting is rule.best).lower(),
                "at_edge": str(bool(rule.edges)).lower() if setting is rule.best else "",
                "tried": len(rule.settings),
            }
