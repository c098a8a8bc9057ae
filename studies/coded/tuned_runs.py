"""What the studies of the three causes share: rules tuned over learning rates and seeds, as rows of tables.

The finished pieces of a study, which need not be computed again.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data import DATA, DataSettings
from ...optimizers import OPTIMIZERS
from ...synthetic.batched_training import Start, Training, train_many
from ...synthetic.tuning import Tried, try_rates, tuned, with_interval
from ..summary import Row, read_table, write_table

RULES = {
    "sgd": OPTIMIZERS["sgd"].model_validate({"momentum": 0.9}),
    "adam": OPTIMIZERS["adam"].model_validate({}),
    "signum": OPTIMIZERS["signum"].model_validate({"lr": 1.0}),
}
"""All with a momentum of 0.9, Adam with torch's other defaults; their learning rates are those that are tried."""

FIRST_RATES = {"sgd": (1e-2, 1.0), "adam": (1e-3, 1e-1), "signum": (1e-3, 1e-1)}
"""The lowest and the highest learning rate before any widening: five of each rule."""


def zipf(classes: int, examples: int, exponent: float, sample: int) -> DataSettings:
    """The classes of the studies: patterns of 12 numbers, a clear difference between them, a tenth of labels shuffled.

    With so few numbers a linear model cannot fit the shuffled labels, so its loss has a minimum.
    """
    values = {"image_size": 2, "pixel_noise": 0.5, "label_noise": 0.1, "evaluation_examples": examples}
    knobs = {"classes": classes, "examples": examples, "exponent": exponent, "sample": sample}
    return DATA["zipf"].model_validate(values | knobs)


def tuned_rows(
    rule: str,
    starts: Sequence[Start],
    training: Training,
    parts: Mapping[str, Tensor] | None = None,
    **cell: object,
) -> list[Row]:
    """One row a run: a rule at every learning rate that was tried, from every start.

    Args:
        rule: of ``RULES``.
        starts: one a seed.
        training: the rest.
        parts: bool ``[seeds, examples]`` by the name of a column, which holds the mean loss of those examples; it is
            empty where there are none.
        cell: further columns, the same in every row.
    """
    tried = try_rates(lambda rates: train_many(starts, RULES[rule], rates, training), *FIRST_RATES[rule])
    if tried.at_edge:
        best = tried.rates[tried.best]
        warnings.warn(
            f"the best learning rate of {rule}, {best:g}, is at the edge of those tried: {cell}", stacklevel=2
        )
    return [
        {**cell, "optimizer": rule, "lr": lr, "seed": start.seed, "loss": float(tried.by_run[i, j])}
        | {name: _loss_of(tried.losses[i, j], chosen[j]) for name, chosen in (parts or {}).items()}
        for i, lr in enumerate(tried.rates)
        for j, start in enumerate(starts)
    ]


def _loss_of(losses: Tensor, chosen: Tensor) -> float | None:
    return float(losses[chosen].double().mean()) if chosen.any() else None


def by_rate(rows: Sequence[Row], column: str = "loss") -> Tensor:
    """A column of the rows of one rule in one cell as ``[rates, seeds]``; infinite where it is not finite."""
    seeds = len({row["seed"] for row in rows})
    values = torch.tensor([float(row[column]) for row in rows], dtype=torch.float64).view(-1, seeds)
    return torch.where(values.isfinite(), values, math.inf)


def summary_row(rows: Sequence[Row], seed: int, column: str = "loss") -> Row:
    """The best rate of one rule in one cell, and what it reaches.

    Args:
        rows: of ``tuned_rows``.
        seed: of the bootstrap.
        column: what is reported at the rate whose ``loss`` is the best.
    """
    losses, values = by_rate(rows), by_rate(rows, column)
    rates = list(dict.fromkeys(row["lr"] for row in rows))
    tried = Tried(rates, losses)
    value, low, high = with_interval(lambda samples: tuned(losses, samples, values), losses.shape[1], seed=seed)
    return {
        "lr": rates[tried.best],
        "rates": len(rates),
        "at_edge": tried.at_edge,
        "value": value,
        "ci_low": low,
        "ci_high": high,
    }


def gap_row(rows: Sequence[Row], baseline: Sequence[Row], seed: int, column: str = "loss") -> Row:
    """How much higher one rule ends than another in the same cell, each at its own best rate, paired by seed.

    Args:
        rows: of ``tuned_rows``, of the rule.
        baseline: those of the other.
        seed: of the bootstrap.
        column: what is compared.
    """
    value, low, high = with_interval(lambda samples: gap(rows, baseline, samples, column), _seeds(rows), seed=seed)
    return {"value": value, "ci_low": low, "ci_high": high}


def gap(rows: Sequence[Row], baseline: Sequence[Row], samples: Tensor, column: str = "loss") -> Tensor:
    """The difference of ``gap_row`` in samples of the seeds, int64 ``[samples, seeds]``: ``[samples]``."""
    reached = [tuned(by_rate(part), samples, by_rate(part, column)) for part in (rows, baseline)]
    return reached[0] - reached[1]


def _seeds(rows: Sequence[Row]) -> int:
    return len({row["seed"] for row in rows})


class Pieces:
    """The pieces of a study: what is computed is written to ``pieces/<name>.csv`` and read back the next time.

    Args:
        folder: the study's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "pieces"

    def rows(self, name: str, compute: Callable[[], Sequence[Mapping[str, Any]]]) -> list[Row]:
        """The rows of one piece, from disk where they are there.

        Args:
            name: of the piece, a file name; it must tell apart everything that differs between pieces.
            compute: gives the rows; all have the same columns.
        """
        path = self._folder / f"{name}.csv"
        if not path.exists():
            write_table(path, compute())
        return read_table(path)
