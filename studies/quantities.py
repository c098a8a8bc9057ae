"""What a study reads off its sweeps: one number a run, or a pair of runs, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..figures.hessian_runs import find_hessian
from ..figures.noise_runs import NoiseRun, find_noise
from ..hessian.pairs import distance_rows
from ..hessian.spectrum import Spectrum
from ..training.metrics import read_metrics
from .frequencies import loss_of_frequencies
from .sweeps.choosing import Chosen
from .sweeps.sweep import SweepResult

Results = Mapping[str, SweepResult]
"""Finished sweeps by name."""

NORM_TAIL = "across_iterations/norm/hill_0.2"
COORDINATE_TAIL = "across_iterations/dense_coordinate/hill_0.05"
VARIANCE_MOVES = "running_variance/second_half_range"

JS_DISTANCE = "js_distance"
ABSOLUTE, RELATIVE = "0.00316228", "1%"
"""The published smoothing √1e-5, and 1 % of the range."""

Moment = Literal["first", "last"]


@dataclass(frozen=True)
class Reading:
    """One number of one seed.

    Attributes:
        arm: whose it is; None where it is about the whole sweep.
        seed: of the run.
        value: infinite where the run diverged.
        tried: settings that were tried in tuning; None where nothing was tuned.
        at_edge: whether the best of them lies at the edge of its grid.
    """

    arm: str | None
    seed: int
    value: float
    tried: int | None
    at_edge: bool | None


@dataclass(frozen=True)
class OfRun:
    """A number that one run has, or has not.

    Attributes:
        unit: its unit.
        read: the number in a run folder; None where the run has no such thing.
        before_training: whether it is a property of the untrained network and its data, hence of the whole sweep.
    """

    unit: str
    read: Callable[[Path], float | None]
    before_training: bool = False

    def readings(self, sweep: str, results: Results) -> Iterator[Reading]:
        """One reading a run of that sweep that has the number."""
        for outcome in results[sweep].final:
            value = math.inf if outcome.state == "diverged" else self.read(outcome.folder)
            if value is not None:
                arm, seed = outcome.trial.arm, outcome.trial.seed
                if self.before_training:
                    yield Reading(None, seed, value, None, None)
                else:
                    yield Reading(arm, seed, value, *_tuning(results[sweep].chosen, (arm,)))


@dataclass(frozen=True)
class Gap:
    """How much higher SGD ends than Adam, over how far Adam came: (SGD − Adam)/(start − Adam), in evaluation loss.

    Dividing by Adam's progress makes networks with losses of different size comparable.
    """

    ARMS: ClassVar[tuple[str, str]] = ("sgd", "adam")
    unit: str = ""

    def readings(self, sweep: str, results: Results) -> Iterator[Reading]:
        """One reading a seed that both rules have."""
        runs = results[sweep].final
        sgd, adam = ({run.trial.seed: run for run in runs if run.trial.arm == arm} for arm in self.ARMS)
        for seed in sorted(sgd.keys() & adam.keys()):
            start = evaluations(adam[seed].folder, "loss")[0]
            value = (sgd[seed].loss - adam[seed].loss) / (start - adam[seed].loss)
            yield Reading(None, seed, value, *_tuning(results[sweep].chosen, self.ARMS))


@dataclass(frozen=True)
class LossOfFrequencies:
    """What a prediction by the frequency of each label alone loses; see ``frequencies.py``."""

    unit: str = "nats"

    def readings(self, sweep: str, results: Results) -> Iterator[Reading]:
        """One reading a seed; none where the task has no classes."""
        for seed, run in {outcome.trial.seed: outcome.trial for outcome in results[sweep].final}.items():
            value = loss_of_frequencies(run.experiment)
            if value is not None:
                yield Reading(None, seed, value, None, None)


@dataclass(frozen=True)
class FullDistance:
    """How unlike the whole Hessian's spectrum is that of the study's first sweep, at the start and up to scale.

    Each spectrum is divided by its own largest |eigenvalue|; the distance is Jensen-Shannon's, smoothed with 1 % of the
    range.

    Attributes:
        noise_floor: whether to read the distance that noise alone would give.
    """

    noise_floor: bool = False
    unit: str = "bits"

    def readings(self, sweep: str, results: Results) -> Iterator[Reading]:
        """One reading a seed that both sweeps have; none of the first sweep itself."""
        first = next(iter(results))
        if sweep == first:
            return
        reference, spectra = (_full_spectra(results[name]) for name in (first, sweep))
        for seed in sorted(reference.keys() & spectra.keys()):
            pair = {"reference": reference[seed], "other": spectra[seed]}
            wanted = (f"scale_free_{JS_DISTANCE}", RELATIVE)
            (row,) = (row for row in distance_rows(pair) if (row.measure, row.sigma) == wanted)
            yield Reading(None, seed, row.noise_floor if self.noise_floor else row.value, None, None)


def _full_spectra(result: SweepResult) -> dict[int, Spectrum]:
    """The whole Hessian's spectrum at the first measured moment, by seed, where it was measured."""
    runs = [
        (run.trial.seed, find_hessian([run.folder])[0]) for run in result.final if (run.folder / "hessian").exists()
    ]
    return {seed: full for seed, run in runs if (full := run.full(run.steps[0])) is not None}


def evaluations(folder: Path, column: str) -> list[float]:
    """The values of a column in the evaluation rows of a run, where it is not empty."""
    rows = read_metrics(folder / "metrics.csv")
    return [float(row[column]) for row in rows if row["split"] == "eval" and row[column]]


def _tuning(chosen: Mapping[str, Chosen], arms: Sequence[str]) -> tuple[int | None, bool | None]:
    tuned = [chosen[arm] for arm in arms if arm in chosen and chosen[arm].tried > 1]
    return (tuned[0].tried, any(arm.at_edge for arm in tuned)) if tuned else (None, None)


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


QUANTITIES: dict[str, OfRun | Gap | LossOfFrequencies | FullDistance] = {
    "final_eval_loss": OfRun("nats", partial(_last_evaluation, "loss")),
    "accuracy": OfRun("", partial(_last_evaluation, "accuracy")),
    "exact_match": OfRun("", partial(_last_evaluation, "exact_match")),
    "f1": OfRun("", partial(_last_evaluation, "f1")),
    "gap": Gap(),
    "loss_of_frequencies": LossOfFrequencies(),
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
