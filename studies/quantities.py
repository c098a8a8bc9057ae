"""The quantities of studies by name: what each reads off a run or a sweep, in which unit."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..figures.hessian_runs import find_hessian
from ..figures.noise_runs import NoiseRun, find_noise
from .rare_labels import losses_on_halves
from .readings import (
    ABSOLUTE,
    JS_DISTANCE,
    RELATIVE,
    FullDistance,
    Gap,
    LossOfFrequencies,
    OfRun,
    RarityGap,
    evaluations,
)

NORM_TAIL = "across_iterations/norm/hill_0.2"
COORDINATE_TAIL = "across_iterations/dense_coordinate/hill_0.05"
VARIANCE_MOVES = "running_variance/second_half_range"

Moment = Literal["first", "last"]


def _last_evaluation(column: str, folder: Path) -> float | None:
    values = evaluations(folder, column)
    return values[-1] if values else None


def _noise(folder: Path) -> NoiseRun | None:
    return find_noise([folder], "batch")[0] if (folder / "noise.csv").exists() else None


def _noise_value(statistic: str, moment: Moment, folder: Path) -> float | None:
    row = _noise_row(statistic, moment, folder)
    return float(row["value"]) if row and row["value"] else None


def _over_control(statistic: str, moment: Moment, folder: Path) -> float | None:
    """A tail index over the middle of its Gaussian control's band: 1 is Gaussian, less is heavier."""
    row = _noise_row(statistic, moment, folder)
    if not row or not row["control_low"]:
        return None
    return float(row["value"]) / math.sqrt(float(row["control_low"]) * float(row["control_high"]))


def _noise_row(statistic: str, moment: Moment, folder: Path) -> dict[str, str] | None:
    noise = _noise(folder)
    if noise is None:
        return None
    return noise.rows(noise.steps[0 if moment == "first" else -1], statistic).get("all")


def _norm_change(centre: Callable[[NDArray[np.float64]], float], folder: Path) -> float | None:
    """1-Wasserstein distance between the logarithms of the noise norms, less their centres, of two moments.

    The moments are the first after the start, where nothing is trained yet, and the last.
    """
    from scipy.stats import wasserstein_distance

    noise = _noise(folder)
    if noise is None or len(noise.steps) < 3:
        return None
    logarithms = [np.log(noise.samples(step).norms) for step in (noise.steps[1], noise.steps[-1])]
    return float(wasserstein_distance(*(values - centre(values) for values in logarithms)))


def _heterogeneity(measure: str, sigma: str, folder: Path, *, noise_floor: bool = False) -> float | None:
    """A measure of the whole model at the first measured moment; of a distance, the mean over pairs of blocks."""
    if not (folder / "hessian").exists():
        return None
    (run,) = find_hessian([folder])
    rows = [row for row in run.measures(run.steps[0]) if (row.measure, row.sigma) == (measure, sigma)]
    return (rows[0].noise_floor if noise_floor else rows[0].value) if rows else None


def _half(name: Literal["rare", "frequent"], folder: Path) -> float | None:
    halves = losses_on_halves(folder)
    return None if halves is None else getattr(halves, name)


QUANTITIES: dict[str, OfRun | Gap | RarityGap | LossOfFrequencies | FullDistance] = {
    "final_eval_loss": OfRun("nats", partial(_last_evaluation, "loss")),
    "accuracy": OfRun("", partial(_last_evaluation, "accuracy")),
    "exact_match": OfRun("", partial(_last_evaluation, "exact_match")),
    "f1": OfRun("", partial(_last_evaluation, "f1")),
    "gap": Gap(),
    "loss_of_frequencies": LossOfFrequencies(),
    "rare_half_loss": OfRun("nats", partial(_half, "rare")),
    "frequent_half_loss": OfRun("nats", partial(_half, "frequent")),
    "rarity_gap": RarityGap(),
    "norm_tail_over_control": OfRun("", partial(_over_control, NORM_TAIL, "last")),
    "coordinate_tail_over_control": OfRun("", partial(_over_control, COORDINATE_TAIL, "last")),
    "norm_tail0": OfRun("", partial(_over_control, NORM_TAIL, "first"), before_training=True),
    "coordinate_tail0": OfRun("", partial(_over_control, COORDINATE_TAIL, "first"), before_training=True),
    "variance_moves": OfRun("", partial(_noise_value, VARIANCE_MOVES, "last")),
    "noise_norm_change": OfRun("nats", partial(_norm_change, lambda values: 0.0)),
    "noise_shape_change": OfRun("nats", partial(_norm_change, lambda values: float(np.median(values)))),
    "js0": OfRun("bits", partial(_heterogeneity, JS_DISTANCE, RELATIVE), before_training=True),
    "js0_floor": OfRun("bits", partial(_heterogeneity, JS_DISTANCE, RELATIVE, noise_floor=True), before_training=True),
    "js0_absolute": OfRun("bits", partial(_heterogeneity, JS_DISTANCE, ABSOLUTE), before_training=True),
    "scale_free_js0": OfRun("bits", partial(_heterogeneity, "scale_free_js_distance", RELATIVE), before_training=True),
    "gradient_heterogeneity": OfRun("", partial(_heterogeneity, "gradient_heterogeneity", ""), before_training=True),
    "full_js": FullDistance(),
    "full_js_floor": FullDistance(noise_floor=True),
}
"""By the name that summary.csv and claims use."""
