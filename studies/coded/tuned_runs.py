"""What coded studies share: finished parts, rows of their summaries, and rules tuned over learning rates and seeds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data import DATA, DataSettings
from ...files import Row, read_csv, write_csv
from ...grid import best_point
from ...optimizers import OPTIMIZERS
from ...synthetic.batched_training import Start, Training, train_many
from ...synthetic.tuning import try_rates, tuned, with_interval
from ..statistics import Effect, widened
from ..summary import IncompleteError, SummaryRow

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
    """One row per run: a rule at every learning rate that was tried, from every start.

    Args:
        rule: of ``RULES``.
        starts: one per seed.
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
    """The best rate of one rule in one cell, of rows of ``tuned_rows``, and the ``column`` that it reaches there."""
    losses, values = by_rate(rows), by_rate(rows, column)
    rates = list(dict.fromkeys(row["lr"] for row in rows))
    best = best_point([{"lr": lr} for lr in rates], losses.mean(1).tolist())
    value, low, high = with_interval(lambda samples: tuned(losses, samples, values), losses.shape[1], seed=seed)
    return {
        "lr": rates[best.index],
        "rates": len(rates),
        "at_edge": best.at_edge,
        "value": value,
        "ci_low": low,
        "ci_high": high,
    }


def gap_row(rows: Sequence[Row], baseline: Sequence[Row], seed: int, column: str = "loss") -> Row:
    """How much higher one rule ends than another in the same cell, each at its own best rate, paired by seed."""
    value, low, high = with_interval(lambda samples: gap(rows, baseline, samples, column), _seeds(rows), seed=seed)
    return {"value": value, "ci_low": low, "ci_high": high}


def gap(rows: Sequence[Row], baseline: Sequence[Row], samples: Tensor, column: str = "loss") -> Tensor:
    """The difference of ``gap_row`` in samples of the seeds, int64 ``[samples, seeds]``: ``[samples]``."""
    reached = [tuned(by_rate(part), samples, by_rate(part, column)) for part in (rows, baseline)]
    return reached[0] - reached[1]


def _seeds(rows: Sequence[Row]) -> int:
    return len({row["seed"] for row in rows})


class Parts:
    """The finished parts of a study: each is computed once, kept in ``pieces/<name>.csv`` and read back from there.

    Args:
        folder: the study's.
        kept_only: compute nothing, and refuse a part that is not there.
    """

    def __init__(self, folder: Path, *, kept_only: bool = False) -> None:
        self._folder = folder / "pieces"
        self._kept_only = kept_only

    def rows(self, name: str, compute: Callable[[], Sequence[Mapping[str, Any]]]) -> list[Row]:
        """The rows of one part, from disk where they are there, else computed.

        Args:
            name: of the part, a file name that differs wherever parts do.
            compute: gives the rows; all have the same columns.

        Raises:
            IncompleteError: the part is not there, and only kept ones are wanted.
        """
        path = self._folder / f"{name}.csv"
        if not path.exists():
            if self._kept_only:
                raise IncompleteError(f"{path} is missing")
            write_csv(path, compute())
        return read_csv(path)


Tables = Mapping[str, Sequence[Row]]
"""The rows of a study's tables by name."""

MakeRow = Callable[..., SummaryRow]
"""``SummaryRow.of_interval`` for one study and scale: from subject, quantity, effect, samples and further fields."""


def estimate(row: Row, samples: int, value: str = "value", prefix: str = "") -> Effect:
    """The number in a row of a table, with its percentile interval made wide enough for so few samples.

    Args:
        row: with columns for the number and for both ends of its interval.
        samples: trials or seeds that were resampled.
        value: the column of the number.
        prefix: of the columns ``ci_low`` and ``ci_high``.
    """
    return widened(Effect(row[value], row[f"{prefix}ci_low"], row[f"{prefix}ci_high"]), samples)


def tuning_columns(tuned: Sequence[Row], used: Sequence[Row]) -> dict[str, Any]:
    """What a summary says of tuning, for the numbers behind which the ``used`` rows of the ``tuned`` ones are.

    Every rule is given five learning rates, and more where the best of them lies at an end. ``tried`` is the fewest
    that any rule of the study had: what was tried beyond a rate that had turned out worse helped none.
    """
    at_edge = any(row["at_edge"] for row in used)
    return {"tried": min(row["rates"] for row in tuned), "at_edge": at_edge, "unit": "nats"}


def last_step(rows: Sequence[Row]) -> list[Row]:
    """The rows of the largest number of steps."""
    last = max(row["steps"] for row in rows)
    return [row for row in rows if row["steps"] == last]


def without(rows: Sequence[Row], *columns: str) -> list[Row]:
    """The rows without some columns."""
    return [{column: value for column, value in row.items() if column not in columns} for row in rows]
