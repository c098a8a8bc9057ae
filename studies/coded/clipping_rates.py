"""How fast the errors of SGD and of clipped SGD fall under noise of tail index α (Zhang et al. 2020, theorems).

Strongly convex: f(x) = ‖x‖²/2 from ‖x‖ = 1, with the published schedule and average. The noise of each coordinate is
Pareto's, P(|ξ| > t) = t^−α, which is the tail at which the theorems are tight; its α-th moment just fails to exist.
G and B are the α-th root of the tail's coefficient: 1 for a coordinate, d^(1/α) for the norm of d of them. Non-convex:
f(x) = x²/2 + 3 sin² x from x = 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ...data.noise_laws import Pareto
from ...figures.synthetic import draw_errors, draw_slopes
from ...files import Row
from ...progress import Track
from ...seeds import derive_seed
from ...settings import Settings
from ...synthetic.intervals import STATISTICS, Array, log_slope, resampled, statistics
from ...synthetic.trials import (
    Rule,
    acclip,
    averaged_errors,
    cclip,
    gclip,
    mean_gradient_norms,
    noise_of_steps,
    non_convex_rate,
    non_convex_schedule,
    projected_sgd,
    sgd,
    strongly_convex_rate,
    strongly_convex_schedule,
    wavy_gradient,
)
from .tuned_runs import (
    MakeRow,
    Parts,
    SummaryRow,
    Tables,
    errors_and_slopes,
    estimate,
    last_step,
    rows_by_steps,
    without,
)

RADIUS = 2.0
"""Of projected SGD's ball, twice the distance from the start to the minimum."""


class ClippingRates(Settings):
    """How much is computed.

    Attributes:
        alphas: tail indices, each for symmetric noise and for the non-convex problem.
        more_alphas: tail indices for one-sided noise, and for ten coordinates.
        trials: of each problem; a tenth with ten coordinates, a quarter of it on the non-convex problem.
        steps: the largest K.
        first: the smallest K of the fit.
        checkpoints: number of K, evenly spread on a logarithmic axis.
        resamples: of the bootstrap.
    """

    alphas: tuple[float, ...] = (1.1, 1.2, 1.35, 1.5, 1.65, 1.8, 2.0)
    more_alphas: tuple[float, ...] = (1.2, 1.5, 1.8)
    trials: int = 3_000
    steps: int = 20_000
    first: int = 300
    checkpoints: int = 10
    resamples: int = 300

    @property
    def horizons(self) -> list[int]:
        """The K."""
        return sorted({int(steps) for steps in np.geomspace(self.first, self.steps, self.checkpoints).round()})

    def trials_of(self, problem: str) -> int:
        """How often a problem is run: those that cost more have fewer trials."""
        return self.trials // {"ten_coordinates": 10, "non_convex": 4}.get(problem, 1)


SCALES = {
    "tiny": ClippingRates(
        alphas=(1.5,), more_alphas=(1.5,), trials=40, steps=60, first=20, checkpoints=3, resamples=20
    ),
    "quick": ClippingRates(),
    "paper": ClippingRates(
        alphas=(1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0),
        more_alphas=(1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0),
        trials=10_000,
        steps=200_000,
        first=1_000,
        checkpoints=16,
        resamples=1_000,
    ),
}


def tables(settings: ClippingRates, parts: Parts, seed: int, track: Track) -> Tables:
    """Errors against K, and their powers of K beside theory's."""
    rows: list[Row] = []
    all_alphas = (settings.alphas, settings.more_alphas, settings.more_alphas, settings.alphas)
    jobs = [(problem, alpha) for problem, alphas in zip(PROBLEMS, all_alphas, strict=True) for alpha in alphas]
    for problem, alpha in track("clipping rates", jobs, len(jobs)):
        compute = partial(_measure, settings, problem, alpha, derive_seed(seed, "clipping_rates"))
        rows += parts.rows(f"{problem}-{alpha}", compute)
    errors, slopes = errors_and_slopes(rows)
    return {"slopes": slopes, "errors": [without(row, "theory", "finite_theory") for row in errors]}


def draw(tables: Tables, folder: Path) -> None:
    """Powers of K against α, and errors against K."""
    draw_slopes(tables["slopes"], folder / "slopes")
    draw_errors(tables["errors"], folder / "errors")


def summary(tables: Tables, settings: ClippingRates, row: MakeRow) -> Iterator[SummaryRow]:
    """Powers of K, the same minus theory's, and the errors at the last K, by problem, α and rule."""
    for slope in tables["slopes"]:
        subject, trials, power = _subject(slope), settings.trials_of(slope["problem"]), slope["statistic"] + "_power"
        effect = estimate(slope, trials)
        yield row(subject, power, effect, trials)
        yield row(subject, f"{power}_less_theory", effect.minus(slope["theory"]), trials)
    for error in last_step(tables["errors"]):
        trials = settings.trials_of(error["problem"])
        yield row(_subject(error), f"final_{error['statistic']}", estimate(error, trials), trials)


def _subject(row: Row) -> str:
    return f"{row['problem']}_{row['alpha']:g}/{row['rule']}"


def _measure(settings: ClippingRates, problem: str, alpha: float, seed: int) -> list[Row]:
    """Rows of errors at each K, and of their powers of K, whose ``steps`` is None."""
    errors = PROBLEMS[problem](settings, Pareto(alpha=alpha, symmetric=problem != "one_sided"), seed)
    theory = (non_convex_rate if problem == "non_convex" else strongly_convex_rate)(alpha)
    finite = _finite_rate(settings, alpha) if problem in ("symmetric", "ten_coordinates") else None
    rows: list[Row] = []
    for rule, values in errors.items():
        samples = resampled(values, statistics, settings.resamples, derive_seed(seed, f"bootstrap {rule}"))
        for i, (name, measured) in enumerate(zip(STATISTICS, statistics(values), strict=True)):
            key = {"problem": problem, "alpha": alpha, "rule": rule, "statistic": name}
            rows += rows_by_steps(key, settings.horizons, measured, samples[:, i])
    return [row | {"theory": theory, "finite_theory": finite} for row in rows]


def _finite_rate(settings: ClippingRates, alpha: float) -> float:
    """Theory's power of K over the K of the fit: that of E min(|ξ|, K^(1/α))²/K, whose leading term is theory's."""
    law = Pareto(alpha=alpha)
    return float(log_slope(settings.horizons, [law.clipped_square(k ** (1 / alpha)) / k for k in settings.horizons]))


def _strongly_convex(coordinates: int, settings: ClippingRates, law: Pareto, seed: int) -> dict[str, Array]:
    """f(average) − f* by rule ``[checkpoints, trials]``."""
    rules: dict[str, Rule] = {"sgd": sgd(), "projected_sgd": projected_sgd(RADIUS)}
    rules |= {"gclip": gclip(coordinates ** (1 / law.alpha)), "acclip": acclip()}
    if coordinates > 1:  # on a line CClip is GClip
        rules["cclip"] = cclip()
    shape = (settings.trials_of("ten_coordinates" if coordinates > 1 else "symmetric"), coordinates)
    noise = noise_of_steps(law, shape, settings.steps, torch.Generator().manual_seed(seed))
    start = torch.full(shape, coordinates**-0.5, dtype=torch.float64)
    errors = averaged_errors(rules, noise, start, strongly_convex_schedule(law.alpha), set(settings.horizons))
    return {name: values.numpy() for name, values in errors.items()}


def _non_convex(settings: ClippingRates, law: Pareto, seed: int) -> dict[str, Array]:
    """Mean ‖∇f‖ by rule ``[checkpoints, trials]``, a run for each K since the schedule depends on it."""
    start = torch.full((settings.trials_of("non_convex"), 1), 3.0, dtype=torch.float64)
    norms: dict[str, list[Array]] = {"sgd": [], "gclip": []}
    for steps in settings.horizons:
        noise = noise_of_steps(law, start.shape, steps, torch.Generator().manual_seed(seed))
        rules = {"sgd": sgd(), "gclip": gclip()}
        means = mean_gradient_norms(rules, noise, start, non_convex_schedule(law.alpha, steps), wavy_gradient)
        for name, values in means.items():
            norms[name].append(values.numpy())
    return {name: np.stack(values) for name, values in norms.items()}


PROBLEMS: dict[str, Callable[[ClippingRates, Pareto, int], dict[str, Array]]] = {
    "symmetric": partial(_strongly_convex, 1),
    "one_sided": partial(_strongly_convex, 1),
    "ten_coordinates": partial(_strongly_convex, 10),
    "non_convex": _non_convex,
}
