"""What coded studies share: finished parts, rows of their tables, and rules tuned over learning rates and seeds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data import DATA, DataSettings
from ...files import Row, read_csv, write_csv
from ...grid import Best, best_point
from ...optimizers import OPTIMIZERS
from ...synthetic.batched_training import Start, Training, train_many
from ...synthetic.intervals import Array, ends, log_slope, with_interval
from ..statistics import Effect, widened
from ..summary import IncompleteError, SummaryRow

Tables = Mapping[str, Sequence[Row]]
"""The rows of a study's tables by name."""

MakeRow = Callable[..., SummaryRow]
"""``SummaryRow.of_interval`` for one study and scale: from subject, quantity, effect, samples and further fields."""


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
        """The rows of one part, from disk where they are there.

        Args:
            name: of the part, a file name; it must tell apart everything that differs between parts.
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


def estimate(row: Row, samples: int, value: str = "value", prefix: str = "") -> Effect:
    """The number in a row of a table, with its percentile interval made wide enough for so few samples.

    Args:
        row: with columns for the number and for both ends of its interval.
        samples: trials or seeds that were resampled.
        value: the column of the number.
        prefix: of the columns ``ci_low`` and ``ci_high``.
    """
    return widened(Effect(row[value], row[f"{prefix}ci_low"], row[f"{prefix}ci_high"]), samples)


def rows_by_steps(key: Row, steps: Sequence[int], values: Array, samples: Array) -> list[Row]:
    """A row for each number K of steps, and one, with None for ``steps``, of the power of K by which the values change.

    Args:
        key: columns of all rows.
        steps: the K.
        values: ``[steps]``.
        samples: of the bootstrap, ``[resamples, steps]``.
    """
    slope = (None, log_slope(steps, values), *ends(log_slope(steps, samples)))
    found = [*zip(steps, values, *ends(samples), strict=True), slope]
    return [key | dict(zip(("steps", "value", "ci_low", "ci_high"), row, strict=True)) for row in found]


def errors_and_slopes(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The two kinds of rows that ``rows_by_steps`` makes."""
    slopes = [without(row, "steps") for row in rows if row["steps"] is None]
    return [row for row in rows if row["steps"] is not None], slopes


def last_step(rows: Sequence[Row]) -> list[Row]:
    """The rows of the largest number of steps."""
    last = max(row["steps"] for row in rows)
    return [row for row in rows if row["steps"] == last]


def without(row: Row, *columns: str) -> Row:
    """The row without some columns."""
    return {column: value for column, value in row.items() if column not in columns}


RULES = {
    "sgd": OPTIMIZERS["sgd"].model_validate({"momentum": 0.9}),
    "adam": OPTIMIZERS["adam"].model_validate({}),
    "signum": OPTIMIZERS["signum"].model_validate({"lr": 1.0}),
}
"""All with a momentum of 0.9, Adam with torch's other defaults; their learning rates are those that are tried."""

RATES_PER_DECADE = 2
"""How finely learning rates are tried: 0.1, 0.316, 1 …"""

FIRST_RATES = {"sgd": (1e-2, 1.0), "adam": (1e-3, 1e-1), "signum": (1e-3, 1e-1)}
"""The lowest and the highest learning rate before any widening: five of each rule."""

WIDENING = 2
"""How many rates are added beyond the best one when it lies at an end of those tried."""


@dataclass(frozen=True)
class Tried:
    """A rule at every learning rate that was tried.

    Attributes:
        rates: in ascending order, evenly spaced on a logarithmic scale.
        losses: final losses ``[rates, seeds, …]``.
    """

    rates: list[float]
    losses: Tensor

    @cached_property
    def by_run(self) -> Tensor:
        """The loss of each run, ``[rates, seeds]``; infinite where it is not finite."""
        means = self.losses.double().flatten(2).mean(2) if self.losses.dim() > 2 else self.losses.double()
        return torch.where(means.isfinite(), means, math.inf)

    @cached_property
    def best(self) -> Best:
        """The rate with the lowest mean loss over the seeds."""
        return best_rate(self.rates, self.by_run)


def best_rate(rates: Sequence[float], losses: Tensor) -> Best:
    """The rate with the lowest mean of its losses ``[rates, seeds]``."""
    return best_point([{"lr": rate} for rate in rates], losses.mean(1).tolist())


def try_rates(train: Callable[[Sequence[float]], Tensor], lowest: float, highest: float, most: int = 16) -> Tried:
    """Try evenly spaced rates, and go on beyond the ends until the best rate is not at one.

    Args:
        train: from learning rates to final losses, ``[rates, seeds, …]``.
        lowest: the first rate; a power of the square root of 10.
        highest: the last one at first.
        most: where to stop, give or take one.
    """

    def attempt(exponents: Sequence[int]) -> Tried:
        rates = [10 ** (exponent / RATES_PER_DECADE) for exponent in exponents]
        return Tried(rates, train(rates))

    low, high = (round(RATES_PER_DECADE * math.log10(rate)) for rate in (lowest, highest))
    tried = attempt(range(low, high + 1))
    while (tried.best.at_edge or len(tried.rates) == 1) and len(tried.rates) < most:
        # Where no run ended with a finite loss, the first rate is the best: only lower ones can help.
        if tried.best.index == 0:
            low -= WIDENING
            parts = [attempt(range(low, low + WIDENING)), tried]
        else:
            high += WIDENING
            parts = [tried, attempt(range(high - WIDENING + 1, high + 1))]
        tried = Tried([rate for part in parts for rate in part.rates], torch.cat([part.losses for part in parts]))
    return tried


def tuned(losses: Tensor, samples: Tensor, values: Tensor | None = None) -> Tensor:
    """What a rule reaches at its best learning rate, which is chosen anew in each bootstrap sample.

    Args:
        losses: ``[rates, seeds]``; the rate with the lowest mean is chosen.
        samples: of the seeds, int64 ``[samples, seeds]``.
        values: ``[rates, seeds]``, whose mean is reported at that rate; the losses themselves by default.

    Returns:
        ``[samples]``.
    """
    best = losses[:, samples].mean(2).argmin(0)
    means = (losses if values is None else values)[:, samples].mean(2)
    return means.gather(0, best[None])[0]


def zipf(classes: int, examples: int, exponent: float, sample: int) -> DataSettings:
    """The classes of the studies: patterns of 12 numbers, a clear difference between them, a tenth of labels shuffled.

    With so few numbers a linear model cannot fit the shuffled labels, so its loss has a minimum.
    """
    values = {"image_size": 2, "pixel_noise": 0.5, "label_noise": 0.1, "evaluation_examples": examples}
    knobs = {"classes": classes, "examples": examples, "exponent": exponent, "sample": sample}
    return DATA["zipf"].model_validate(values | knobs)


def tuned_rows(
    rules: Sequence[str],
    starts: Sequence[Start],
    training: Training,
    parts: Mapping[str, Tensor] | None = None,
    **cell: object,
) -> list[Row]:
    """One row per run: every rule at every learning rate that was tried for it, from every start.

    Args:
        rules: of ``RULES``.
        starts: one per seed.
        training: the rest.
        parts: bool ``[seeds, examples]`` by the name of a column, which holds the mean loss of those examples; it is
            empty where there are none.
        cell: further columns, the same in every row.
    """
    rows: list[Row] = []
    for rule in rules:
        tried = try_rates(partial(train_many, starts, RULES[rule], training=training), *FIRST_RATES[rule])
        if tried.best.at_edge:
            best = tried.rates[tried.best.index]
            message = f"the best learning rate of {rule}, {best:g}, is at the edge of those tried: {cell}"
            warnings.warn(message, stacklevel=2)
        rows += [
            {**cell, "optimizer": rule, "lr": lr, "seed": start.seed, "loss": float(tried.by_run[i, j])}
            | {name: _loss_of(tried.losses[i, j], chosen[j]) for name, chosen in (parts or {}).items()}
            for i, lr in enumerate(tried.rates)
            for j, start in enumerate(starts)
        ]
    return rows


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
    best = best_rate(rates, losses)
    reached = with_interval(lambda samples: tuned(losses, samples, values), losses.shape[1], seed=seed)
    return {"lr": rates[best.index], "rates": len(rates), "at_edge": best.at_edge, **reached}


def gap_row(rows: Sequence[Row], baseline: Sequence[Row], seed: int, column: str = "loss") -> Row:
    """How much higher one rule ends than another in the same cell, each at its own best rate, paired by seed."""
    return {**with_interval(partial(gap, rows, baseline, column=column), by_rate(rows).shape[1], seed=seed)}


def gap(rows: Sequence[Row], baseline: Sequence[Row], samples: Tensor, column: str = "loss") -> Tensor:
    """The difference of ``gap_row`` in samples of the seeds, int64 ``[samples, seeds]``: ``[samples]``."""
    reached = [tuned(by_rate(part), samples, by_rate(part, column)) for part in (rows, baseline)]
    return reached[0] - reached[1]


def tuning_columns(tuned: Sequence[Row], used: Sequence[Row]) -> dict[str, Any]:
    """What a summary says of tuning.

    Every rule is given five learning rates, and more where the best of them lies at an end. ``tried`` is the fewest
    that any rule of the study had: what was tried beyond a rate that had turned out worse helped none.

    Args:
        tuned: ``summary_row`` of every rule in every cell of the study.
        used: those behind the number.
    """
    at_edge = any(row["at_edge"] for row in used)
    return {"tried": min(row["rates"] for row in tuned), "at_edge": at_edge, "unit": "nats"}
