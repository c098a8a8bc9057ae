"""How much worse GClip is than CClip in many dimensions (Zhang et al. 2020: G² against ‖B‖², that is d^(2/α−1)).

f(x) = ‖x‖²/2 from x = (1, …, 1); each coordinate's noise is Pareto's, symmetric, with P(|ξ| > t) = t^−α. Both rules see
the same noise, with the published schedule, G = d^(1/α) and B = 1: the α-th roots of the tails' coefficients. Besides,
the thresholds are multiplied by several factors, and each rule has its best one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from ...data.noise_laws import Pareto
from ...figures.runs import select
from ...figures.synthetic import draw_dimensions
from ...files import Row
from ...grid import best_point, is_extreme
from ...progress import Track
from ...seeds import derive_seed
from ...settings import Settings
from ...synthetic.intervals import Array, ends, log_slope, resampled
from ...synthetic.trials import averaged_errors, cclip, gclip, noise_of_steps, strongly_convex_schedule
from .tuned_runs import MakeRow, Parts, SummaryRow, Tables, estimate, without


class Dimension(Settings):
    """How much is computed.

    Attributes:
        alphas: tail indices.
        coordinates: the d.
        numbers: coordinates over all trials, as long as there are at least ``fewest_trials``.
        fewest_trials: of the largest problems.
        steps: K.
        factors: of the thresholds; 1 is the published one.
        resamples: of the bootstrap.
    """

    alphas: tuple[float, ...] = (1.2, 1.5, 1.8)
    coordinates: tuple[int, ...] = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)
    numbers: int = 10_000
    fewest_trials: int = 20
    steps: int = 500
    factors: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    resamples: int = 300


SCALES = {
    "tiny": Dimension(
        alphas=(1.5,), coordinates=(1, 5), numbers=100, fewest_trials=20, steps=20, factors=(0.3, 1.0), resamples=20
    ),
    "quick": Dimension(),
    "paper": Dimension(
        alphas=(1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0),
        numbers=200_000,
        fewest_trials=200,
        steps=10_000,
        factors=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
        resamples=1_000,
    ),
}


def tables(settings: Dimension, parts: Parts, seed: int, track: Track) -> Tables:
    """Mean error of GClip over that of CClip by d, and its powers of d."""
    rows: list[Row] = []
    jobs = list(product(settings.alphas, settings.coordinates))
    for alpha, coordinates in track("dimension", jobs, len(jobs)):
        compute = partial(_measure, settings, alpha, coordinates, derive_seed(seed, "dimension"))
        rows += parts.rows(f"{alpha}-{coordinates}", compute)
    ratios = [without(row, "sample") for row in select(rows, sample=None)]
    return {"ratios": ratios, "slopes": _slopes(settings, rows)}


def draw(tables: Tables, folder: Path) -> None:
    """The ratio against d."""
    draw_dimensions(tables["ratios"], folder / "ratios")


def summary(tables: Tables, settings: Dimension, row: MakeRow) -> Iterator[SummaryRow]:
    """The power of d with which GClip's error over CClip's grows, and the same minus theory's."""
    for slope in tables["slopes"]:
        points = select(tables["ratios"], alpha=slope["alpha"], thresholds=slope["thresholds"])
        more = {}
        if slope["thresholds"] == "best":
            best = {point[name] for point in points for name in ("gclip_factor", "cclip_factor")}
            at_edge = any(is_extreme(factor, settings.factors) for factor in best)
            more = {"tried": len(settings.factors), "at_edge": at_edge}
        # The largest problems have the fewest trials, and weigh most in the slope.
        trials = min(point["trials"] for point in points)
        subject, power = f"alpha_{slope['alpha']:g}/{slope['thresholds']}", estimate(slope, trials, value="slope")
        yield row(subject, "power_of_d", power, trials, **more)
        yield row(subject, "power_of_d_less_theory", power.minus(slope["theory"]), trials, **more)


def _measure(settings: Dimension, alpha: float, coordinates: int, seed: int) -> list[Row]:
    """A row of the ratio at the published thresholds, one at the best; then as many of each bootstrap sample."""
    errors = _errors(settings, alpha, coordinates, seed)
    trials = len(next(iter(errors.values())))
    best = {rule: _best_factor(settings, rule, errors) for rule in ("gclip", "cclip")}
    rows: list[Row] = []
    for thresholds, factors in (("published", {"gclip": 1.0, "cclip": 1.0}), ("best", best)):
        pair = np.stack([errors[rule, factor] for rule, factor in factors.items()])
        samples = resampled(pair, _ratio, settings.resamples, derive_seed(seed, "bootstrap", coordinates))
        low, high = ends(samples)
        key = {"alpha": alpha, "coordinates": coordinates, "thresholds": thresholds}
        rows.append(
            key
            | {"sample": None, "ratio": _ratio(pair), "ci_low": low, "ci_high": high}
            | {"predicted": coordinates ** (2 / alpha - 1), "trials": trials}
            | {f"{rule}_error": errors[rule, factor].mean() for rule, factor in factors.items()}
            | {f"{rule}_factor": factor for rule, factor in factors.items()}
        )
        rows += [
            dict.fromkeys(rows[0]) | key | {"sample": number, "ratio": ratio} for number, ratio in enumerate(samples)
        ]
    return rows


def _best_factor(settings: Dimension, rule: str, errors: dict[tuple[str, float], Array]) -> float:
    points = [{"factor": factor} for factor in settings.factors]
    best = best_point(points, [errors[rule, factor].mean() for factor in settings.factors])
    return settings.factors[best.index]


def _errors(settings: Dimension, alpha: float, coordinates: int, seed: int) -> dict[tuple[str, float], Array]:
    """f(average) after the last step, by rule and factor ``[trials]``."""
    shape = (max(settings.fewest_trials, settings.numbers // coordinates), coordinates)
    generator = torch.Generator().manual_seed(derive_seed(seed, "noise", coordinates))
    noise = noise_of_steps(Pareto(alpha=alpha), shape, settings.steps, generator)
    rules = {("gclip", factor): gclip(factor * coordinates ** (1 / alpha)) for factor in settings.factors}
    rules |= {("cclip", factor): cclip(factor) for factor in settings.factors}
    start = torch.ones(shape, dtype=torch.float64)
    errors = averaged_errors(rules, noise, start, strongly_convex_schedule(alpha), {settings.steps})
    return {key: values[0].numpy() for key, values in errors.items()}


def _ratio(pair: Array) -> Array:
    """Mean error of GClip over that of CClip, of ``[2, trials]``."""
    means = pair.mean(axis=-1)
    return means[0] / means[1]


def _slopes(settings: Dimension, rows: list[Row]) -> list[Row]:
    """The power of d with which the ratio grows, by α and kind of thresholds; trials differ from d to d."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    slopes = []
    for alpha, thresholds in product(settings.alphas, ("published", "best")):
        chosen = frame[(frame["alpha"] == alpha) & (frame["thresholds"] == thresholds)]
        measured = chosen[chosen["sample"].isna()].set_index("coordinates")["ratio"].loc[list(settings.coordinates)]
        samples = chosen.dropna(subset=["sample"]).pivot(index="coordinates", columns="sample", values="ratio")
        # In this order in memory, on which the last digit of a product of matrices depends.
        ordered = np.ascontiguousarray(samples.loc[list(settings.coordinates)])
        low, high = ends(log_slope(settings.coordinates, ordered.T))
        slope = log_slope(settings.coordinates, measured.to_numpy())
        key = {"alpha": alpha, "thresholds": thresholds, "slope": slope, "ci_low": low, "ci_high": high}
        slopes.append(key | {"theory": 2 / alpha - 1})
    return slopes
