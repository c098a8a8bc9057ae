"""The quantities of studies by name: what each reads off a run, a pair of runs or a sweep, in which unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..configs.schema import Experiment
from ..data.batches import evaluation_batches
from ..figures.hessian import find_hessian
from ..figures.noise import NoiseRun, find_noise
from ..hessian.distances import distance_rows
from ..hessian.spectrum import Spectrum
from ..tasks.base import Batch, Task
from ..tasks.cross_entropy import IGNORED, CrossEntropyTask
from ..tasks.problem import bind_task
from ..training.checkpoint import saved_states
from ..training.devices import to_device
from ..training.metrics import read_metrics
from ..training.run_folder import RunFolder
from .sweeps.outcomes import Chosen, Outcome
from .sweeps.sweep import SweepResult

MOST_EXAMPLES = 16_384
"""Of the training part, evenly spaced, that are counted."""

BATCH = 256


def loss_of_frequencies(experiment: Experiment) -> float | None:
    """Cross-entropy, in nats, of the labels that the experiment is evaluated on, under their frequencies in training.

    Every class counts as seen once more than it was, so that none is impossible.

    Returns:
        None for a task without classes.
    """
    task = bind_task(experiment.task, experiment.data, experiment.seed)
    if "labels" not in task.evaluation.batch([(0, 0)]):
        return None
    seen = 1 + count_training_labels(task)
    evaluated = _count(task, evaluation_batches(task.evaluation, BATCH, limit=experiment.training.eval_examples))
    frequencies = seen.double() / seen.sum()
    return float(-(evaluated * frequencies.log()).sum() / evaluated.sum())


def count_training_labels(task: Task) -> Tensor:
    """How often each class is a label in a part of the training examples, int64 ``[outputs]``."""
    return _count(task, _training_batches(task))


def _training_batches(task: Task) -> Iterable[Batch]:
    stride = -(-len(task.train) // MOST_EXAMPLES)
    keys = [(0, index) for index in range(0, len(task.train), stride)]
    return (task.train.batch(keys[start : start + BATCH]) for start in range(0, len(keys), BATCH))


def _count(task: Task, batches: Iterable[Batch]) -> Tensor:
    """How often each class occurs, ``[outputs]``."""
    counts = torch.zeros(task.head.outputs, dtype=torch.int64)
    for batch in batches:
        labels = batch["labels"].flatten()
        counts += torch.bincount(labels[labels != IGNORED], minlength=len(counts))
    return counts


@dataclass(frozen=True)
class Halves:
    """Mean evaluation losses, in nats, on the rarer and on the more frequent half of the labels."""

    rare: float
    frequent: float


@cache
def losses_on_halves(folder: Path) -> Halves | None:
    """What a finished run loses on either half of the labels it is evaluated on.

    Classes are rare or frequent by their number in training: the rare ones are those, from the rarest on, that have at
    most half of the labels together.

    Args:
        folder: a run folder with a checkpoint of the last step.

    Returns:
        None for a task without classes, or where one half has no labels.

    Raises:
        UserError: the checkpoint is missing.
    """
    experiment = RunFolder(folder).read_config()
    for visit in saved_states(experiment, RunFolder(folder), ["100%"]):
        problem, settings = visit.problem, experiment.training
        if not isinstance(problem.task, CrossEntropyTask):
            return None
        device = next(problem.model.parameters()).device
        batches = evaluation_batches(problem.evaluation, settings.eval_batch_size, limit=settings.eval_examples)
        problem.model.eval()
        losses, counts = problem.task.losses_by_class(problem.model, (to_device(batch, device) for batch in batches))
        rare = rarer_half(count_training_labels(problem.task))
        if counts[rare].sum() > 0 and counts[~rare].sum() > 0:
            return Halves(*(float(losses[half].sum() / counts[half].sum()) for half in (rare, ~rare)))
    return None


def rarer_half(counts: Tensor) -> Tensor:
    """Which classes, from the rarest on, have at most half of all labels together: counts to bool, ``[classes]``."""
    order = counts.argsort(stable=True)
    is_rare = torch.empty_like(counts, dtype=torch.bool)
    is_rare[order] = 2 * counts[order].cumsum(0) <= counts.sum()
    return is_rare


Results = Mapping[str, SweepResult]
"""Finished sweeps by name."""

JS_DISTANCE = "js_distance"
ABSOLUTE, RELATIVE = "0.00316228", "1%"
"""The published smoothing √1e-5, and 1 % of the range."""

SGD_AND_ADAM = ("sgd", "adam")
"""The arms of a sweep that a gap is between."""


@dataclass(frozen=True)
class Reading:
    """One number of one seed.

    Attributes:
        arm: whose it is; None where it is about the sweep as such.
        seed: of the run.
        value: infinite where the run diverged.
        tried: settings that were tried in tuning; None where nothing was tuned.
        at_edge: whether the best of them lies at the edge of its grid.
    """

    arm: str | None
    seed: int
    value: float
    tried: int | None = None
    at_edge: bool | None = None


@dataclass(frozen=True)
class Quantity:
    """What can be read off a finished sweep.

    Attributes:
        unit: its unit.
        readings: its numbers, from the name of the sweep and the results of all sweeps of the study.
        compares_rules: whether it is between SGD and Adam, which then need equally many settings.
    """

    unit: str
    readings: Callable[[str, Results], Iterator[Reading]]
    compares_rules: bool = False


def _of_run(read: Callable[[Path], float | None], sweep: str, results: Results) -> Iterator[Reading]:
    """The number of each run that has it."""
    chosen = results[sweep].chosen
    for run in results[sweep].final:
        value = math.inf if run.state == "diverged" else read(run.folder)
        if value is not None:
            yield Reading(run.trial.arm, run.trial.seed, value, *_tuning(chosen, (run.trial.arm,)))


def _before_training(read: Callable[[Path], float | None], sweep: str, results: Results) -> Iterator[Reading]:
    """A number of the untrained network and its data: it belongs to the sweep, not to an arm."""
    for reading in _of_run(read, sweep, results):
        yield Reading(None, reading.seed, reading.value)


def _gap(sweep: str, results: Results) -> Iterator[Reading]:
    """How much higher SGD ends than Adam, over how far Adam came: (SGD − Adam)/(start − Adam), in evaluation loss.

    Dividing by Adam's progress makes networks with losses of different size comparable.
    """
    for seed, sgd, adam in _pairs(results[sweep]):
        start = evaluations(adam.folder, "loss")[0]
        value = (sgd.loss - adam.loss) / (start - adam.loss)
        yield Reading(None, seed, value, *_tuning(results[sweep].chosen, SGD_AND_ADAM))


def _rarity_gap(sweep: str, results: Results) -> Iterator[Reading]:
    """How much further SGD ends above Adam on the rarer half of the labels than on the other half."""
    for seed, *runs in _pairs(results[sweep]):
        sgd, adam = (losses_on_halves(run.folder) for run in runs)
        if sgd is not None and adam is not None:
            value = (sgd.rare - adam.rare) - (sgd.frequent - adam.frequent)
            yield Reading(None, seed, value, *_tuning(results[sweep].chosen, SGD_AND_ADAM))


def _frequencies(sweep: str, results: Results) -> Iterator[Reading]:
    """What a prediction by the frequency of each label alone loses; nothing where the task has no classes."""
    for seed, trial in {run.trial.seed: run.trial for run in results[sweep].final}.items():
        value = loss_of_frequencies(trial.experiment)
        if value is not None:
            yield Reading(None, seed, value)


def _full_distance(attribute: Literal["value", "noise_floor"], sweep: str, results: Results) -> Iterator[Reading]:
    """How unlike the full Hessian's spectrum is that of the study's first sweep, at the start and up to scale.

    Each spectrum is divided by its own largest |eigenvalue|; the distance is Jensen-Shannon's, smoothed with 1 % of the
    range. ``noise_floor`` is the distance that noise alone would give. The first sweep itself has none.
    """
    first = next(iter(results))
    if sweep == first:
        return
    reference, spectra = (_full_spectra(results[name]) for name in (first, sweep))
    for seed in sorted(reference.keys() & spectra.keys()):
        rows = distance_rows({"reference": reference[seed], "other": spectra[seed]})
        (row,) = (row for row in rows if (row.measure, row.sigma) == (f"scale_free_{JS_DISTANCE}", RELATIVE))
        yield Reading(None, seed, getattr(row, attribute))


def _full_spectra(result: SweepResult) -> dict[int, Spectrum]:
    """The full Hessian's spectrum at the first measured step, by seed, where it was measured."""
    runs = [
        (run.trial.seed, find_hessian([run.folder])[0]) for run in result.final if (run.folder / "hessian").exists()
    ]
    return {seed: full for seed, run in runs if (full := run.full(run.steps[0])) is not None}


def evaluations(folder: Path, column: str) -> list[float]:
    """The values of a column in the evaluation rows of a run, where it is not empty."""
    rows = read_metrics(folder / "metrics.csv")
    return [float(row[column]) for row in rows if row["split"] == "eval" and row[column]]


def _pairs(result: SweepResult) -> Iterator[tuple[int, Outcome, Outcome]]:
    """Each seed that both SGD and Adam have, with their runs."""
    sgd, adam = ({run.trial.seed: run for run in result.final if run.trial.arm == arm} for arm in SGD_AND_ADAM)
    for seed in sorted(sgd.keys() & adam.keys()):
        yield seed, sgd[seed], adam[seed]


def _tuning(chosen: Mapping[str, Chosen], arms: Sequence[str]) -> tuple[int | None, bool | None]:
    tuned = [chosen[arm] for arm in arms if arm in chosen and chosen[arm].tried > 1]
    return (tuned[0].tried, any(arm.at_edge for arm in tuned)) if tuned else (None, None)


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
    """1-Wasserstein distance between the logarithms of the noise norms, minus their centres, of two measured steps.

    These are the first after the start, where nothing is trained yet, and the last.
    """
    from scipy.stats import wasserstein_distance

    noise = _noise(folder)
    if noise is None or len(noise.steps) < 3:
        return None
    logarithms = [np.log(noise.samples(step).norms) for step in (noise.steps[1], noise.steps[-1])]
    return float(wasserstein_distance(*(values - centre(values) for values in logarithms)))


def _heterogeneity(measure: str, sigma: str, folder: Path, *, noise_floor: bool = False) -> float | None:
    """A measure of the full model at the first measured step; of a distance, the mean over pairs of blocks."""
    if not (folder / "hessian").exists():
        return None
    (run,) = find_hessian([folder])
    rows = [row for row in run.measures(run.steps[0]) if (row.measure, row.sigma) == (measure, sigma)]
    return (rows[0].noise_floor if noise_floor else rows[0].value) if rows else None


def _half(name: Literal["rare", "frequent"], folder: Path) -> float | None:
    halves = losses_on_halves(folder)
    return None if halves is None else getattr(halves, name)


def _run(unit: str, read: Callable[[Path], float | None]) -> Quantity:
    return Quantity(unit, partial(_of_run, read))


def _network(unit: str, read: Callable[[Path], float | None]) -> Quantity:
    return Quantity(unit, partial(_before_training, read))


QUANTITIES = {
    "final_eval_loss": _run("nats", partial(_last_evaluation, "loss")),
    "accuracy": _run("", partial(_last_evaluation, "accuracy")),
    "exact_match": _run("", partial(_last_evaluation, "exact_match")),
    "f1": _run("", partial(_last_evaluation, "f1")),
    "gap": Quantity("", _gap, compares_rules=True),
    "loss_of_frequencies": Quantity("nats", _frequencies),
    "rare_half_loss": _run("nats", partial(_half, "rare")),
    "frequent_half_loss": _run("nats", partial(_half, "frequent")),
    "rarity_gap": Quantity("nats", _rarity_gap, compares_rules=True),
    "norm_tail_over_control": _run("", partial(_over_control, NORM_TAIL, "last")),
    "coordinate_tail_over_control": _run("", partial(_over_control, COORDINATE_TAIL, "last")),
    "norm_tail0": _network("", partial(_over_control, NORM_TAIL, "first")),
    "coordinate_tail0": _network("", partial(_over_control, COORDINATE_TAIL, "first")),
    "variance_moves": _run("", partial(_noise_value, VARIANCE_MOVES, "last")),
    "noise_norm_change": _run("nats", partial(_norm_change, lambda values: 0.0)),
    "noise_shape_change": _run("nats", partial(_norm_change, lambda values: float(np.median(values)))),
    "js0": _network("√bits", partial(_heterogeneity, JS_DISTANCE, RELATIVE)),
    "js0_floor": _network("√bits", partial(_heterogeneity, JS_DISTANCE, RELATIVE, noise_floor=True)),
    "js0_absolute": _network("√bits", partial(_heterogeneity, JS_DISTANCE, ABSOLUTE)),
    "scale_free_js0": _network("√bits", partial(_heterogeneity, f"scale_free_{JS_DISTANCE}", RELATIVE)),
    "gradient_heterogeneity": _network("", partial(_heterogeneity, "gradient_heterogeneity", "")),
    "full_js": Quantity("√bits", partial(_full_distance, "value")),
    "full_js_floor": Quantity("√bits", partial(_full_distance, "noise_floor")),
}
"""By the name that summary.csv and claims use."""
