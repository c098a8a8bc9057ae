"""Errors on the hardest coin-flip problem for each number of steps, beside the least that any method can have.

All methods start at 0, halfway between the minima of the two problems. They are odd in the gradient, so their errors on
both are the same, and the mean error over trials estimates what the bound is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from operator import mul
from pathlib import Path

import numpy as np
import torch

from ...figures.synthetic import draw_lower_bound
from ...files import Row
from ...progress import Track
from ...seeds import derive_seed
from ...settings import Settings
from ...synthetic.intervals import Array, resampled
from ...synthetic.trials import (
    CoinFlipProblem,
    acclip,
    averaged_errors,
    gclip,
    least_error,
    sgd,
    strongly_convex_rate,
    strongly_convex_schedule,
)
from .tuned_runs import MakeRow, Parts, SummaryRow, Tables, errors_and_slopes, estimate, last_step, rows_by_steps


class LowerBound(Settings):
    """How much is computed.

    Attributes:
        alphas: orders of the moment that is 1.
        horizons: the K, each with its own hardest problem.
        trials: of each.
        resamples: of the bootstrap.
    """

    alphas: tuple[float, ...] = (1.2, 1.5, 1.8)
    horizons: tuple[int, ...] = (10, 30, 100, 300, 1_000, 3_000)
    trials: int = 10_000
    resamples: int = 300


SCALES = {
    "tiny": LowerBound(alphas=(1.5,), horizons=(5, 10, 20), trials=200, resamples=20),
    "quick": LowerBound(),
    "paper": LowerBound(
        alphas=(1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0),
        horizons=(10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000),
        trials=50_000,
        resamples=1_000,
    ),
}


def tables(settings: LowerBound, parts: Parts, seed: int, track: Track) -> Tables:
    """Mean errors and the bound by K, and their powers of K."""
    rows: list[Row] = []
    for alpha in track("lower bound", settings.alphas, len(settings.alphas)):
        rows += parts.rows(f"{alpha}", partial(_measure, settings, alpha, derive_seed(seed, "lower_bound")))
    errors, slopes = errors_and_slopes(rows)
    return {"errors": errors, "slopes": slopes}


def draw(tables: Tables, folder: Path) -> None:
    """Errors against K."""
    draw_lower_bound(tables["errors"], folder / "errors")


def summary(tables: Tables, settings: LowerBound, row: MakeRow) -> Iterator[SummaryRow]:
    """Powers of K, the same minus the bound's, and the errors at the last K over the bound, by α and rule."""
    trials = settings.trials
    for slope in tables["slopes"]:
        subject, power = f"alpha_{slope['alpha']:g}/{slope['rule']}", estimate(slope, trials)
        yield row(subject, "power", power, trials)
        yield row(subject, "power_less_bound", power.minus(slope["bound"]), trials)
    for error in last_step(tables["errors"]):
        over = estimate(error, trials).map(partial(mul, 1 / error["bound"]))
        yield row(f"alpha_{error['alpha']:g}/{error['rule']}", "error_over_bound", over, trials)


def _measure(settings: LowerBound, alpha: float, seed: int) -> list[Row]:
    """A row per rule and K, and one of its power of K, whose ``steps`` is None and ``bound`` the bound's power."""
    errors: dict[str, list[Array]] = {"sgd": [], "gclip": [], "acclip": []}
    for steps in settings.horizons:
        for rule, values in _errors(settings, alpha, steps, seed).items():
            errors[rule].append(values)
    rows: list[Row] = []
    for rule, of_rule in errors.items():
        values = np.stack(of_rule)
        samples = resampled(values, _mean, settings.resamples, derive_seed(seed, f"bootstrap {rule}"))
        rows += rows_by_steps({"alpha": alpha, "rule": rule}, settings.horizons, _mean(values), samples)
    power = strongly_convex_rate(alpha)
    return [row | {"bound": power if row["steps"] is None else least_error(alpha, row["steps"])} for row in rows]


def _errors(settings: LowerBound, alpha: float, steps: int, seed: int) -> dict[str, Array]:
    """f(average) − f* after ``steps`` gradients, by rule ``[trials]``."""
    problem = CoinFlipProblem(alpha, steps)
    generator = torch.Generator().manual_seed(derive_seed(seed, "coin flips", steps))
    noise = (problem.noise(settings.trials, generator) for _ in range(steps))
    start = torch.full((settings.trials, 1), -problem.minimum, dtype=torch.float64)
    rules = {"sgd": sgd(), "gclip": gclip(), "acclip": acclip()}
    errors = averaged_errors(rules, noise, start, strongly_convex_schedule(alpha), {steps})
    return {name: values[0].numpy() for name, values in errors.items()}


def _mean(values: Array) -> Array:
    return values.mean(axis=-1)
