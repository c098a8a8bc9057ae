"""What can be read off a finished sweep: one number a run, or a pair of runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..figures.hessian_runs import find_hessian
from ..hessian.pairs import distance_rows
from ..hessian.spectrum import Spectrum
from ..training.metrics import read_metrics
from .frequencies import loss_of_frequencies
from .rare_labels import losses_on_halves
from .sweeps.choosing import Chosen
from .sweeps.outcomes import Outcome
from .sweeps.sweep import SweepResult

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

    unit: str = ""

    def readings(self, sweep: str, results: Results) -> Iterator[Reading]:
        """One reading a seed that both rules have."""
        for seed, sgd, adam in _pairs(results[sweep]):
            start = evaluations(adam.folder, "loss")[0]
            value = (sgd.loss - adam.loss) / (start - adam.loss)
            yield Reading(None, seed, value, *_tuning(results[sweep].chosen, SGD_AND_ADAM))


@dataclass(frozen=True)
class RarityGap:
    """How much further SGD ends above Adam on the rarer half of the labels than on the other half."""

    unit: str = "nats"

    def readings(self, sweep: str, results: Results) -> Iterator[Reading]:
        """One reading a seed that both rules have."""
        for seed, sgd, adam in _pairs(results[sweep]):
            by_rule = [losses_on_halves(run.folder) for run in (sgd, adam)]
            if by_rule[0] is not None and by_rule[1] is not None:
                value = (by_rule[0].rare - by_rule[1].rare) - (by_rule[0].frequent - by_rule[1].frequent)
                yield Reading(None, seed, value, *_tuning(results[sweep].chosen, SGD_AND_ADAM))


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


def _pairs(result: SweepResult) -> Iterator[tuple[int, Outcome, Outcome]]:
    """Each seed that both SGD and Adam have, with their runs."""
    sgd, adam = ({run.trial.seed: run for run in result.final if run.trial.arm == arm} for arm in SGD_AND_ADAM)
    for seed in sorted(sgd.keys() & adam.keys()):
        yield seed, sgd[seed], adam[seed]


def _tuning(chosen: Mapping[str, Chosen], arms: Sequence[str]) -> tuple[int | None, bool | None]:
    tuned = [chosen[arm] for arm in arms if arm in chosen and chosen[arm].tried > 1]
    return (tuned[0].tried, any(arm.at_edge for arm in tuned)) if tuned else (None, None)
