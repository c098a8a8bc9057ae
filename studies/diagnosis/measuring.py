"""Noise, curvature and labels of an untrained network: the measures that the study ``blocks_and_gap`` has of others."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from operator import length_hint
from pathlib import Path

from torch import nn

from ...errors import UserError
from ...hessian.measures import gradient_heterogeneity
from ...hessian.operators import mean_gradient
from ...hessian.pairs import distance_rows, heterogeneity
from ...hessian.site import Site, Target
from ...noise.gradients import batch_noise, reference_gradient, trained_parameters
from ...noise.reduction import ALL, Reduction
from ...noise.report import TailRow
from ...noise.settings import NoiseSettings
from ...noise.summary import tail_rows
from ...seeds import derive_seed
from ...training.progress import watched
from ..quantities import COORDINATE_TAIL, NORM_TAIL
from ..readings import ABSOLUTE, JS_DISTANCE, RELATIVE
from .derivatives import twice_differentiable
from .labels import Imbalance, LabelCounts
from .plan import REFERENCE_TIMES, Plan
from .subject import Subject

TAILS = {"norm_tail0": NORM_TAIL, "coordinate_tail0": COORDINATE_TAIL}
"""Statistics of the noise by the name that the study's summary has for their ratio to the control."""

DISTANCES = {
    "js0": (JS_DISTANCE, RELATIVE),
    "js0_absolute": (JS_DISTANCE, ABSOLUTE),
    "scale_free_js0": (f"scale_free_{JS_DISTANCE}", RELATIVE),
}
"""Distances between blocks and their smoothing, by the name that the study's summary has for their mean."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Tail:
    """A tail index and the range that holds 95 % of Gaussian surrogates of the same noise.

    Attributes:
        index: Hill's estimate of α.
        control_low: lower end of the Gaussian range.
        control_high: its upper end.
        verdict: of the index against that range.
    """

    index: float
    control_low: float
    control_high: float
    verdict: str

    @property
    def over_control(self) -> float:
        """The index over the geometric middle of the Gaussian range; less than 1 is heavier than Gaussian."""
        return self.index / sqrt(self.control_low * self.control_high)


@dataclass(frozen=True)
class Distance:
    """A mean distance between the spectra of all pairs of blocks, in bits, and what noise alone would give."""

    value: float
    noise_floor: float


@dataclass(frozen=True)
class Diagnosis:
    """What was measured of an untrained network.

    Attributes:
        name: of the subject.
        plan: what it cost to compute.
        overall: the verdict on the noise as a whole, of many statistics together.
        tails: by the keys of ``TAILS``; a statistic that cannot be had is missing.
        distances: by the keys of ``DISTANCES``; empty if there are fewer than two blocks.
        gradient_heterogeneity: standard deviation of the logarithms of the blocks' root-mean-square gradients; None of
            fewer than two blocks.
        batch_norm: whether the network has BatchNorm, which does nothing where curvature is measured.
        imbalance: of the labels; None where the batches do not tell them.
        seconds: taken, by part.
    """

    name: str
    plan: Plan
    overall: str
    tails: Mapping[str, Tail]
    distances: Mapping[str, Distance]
    gradient_heterogeneity: float | None
    batch_norm: bool
    imbalance: Imbalance | None
    seconds: Mapping[str, float]

    @property
    def values(self) -> dict[str, float]:
        """What can be compared with the study's networks, by the names of its summary."""
        values = {name: tail.over_control for name, tail in self.tails.items()}
        values |= {name: distance.value for name, distance in self.distances.items()}
        if self.gradient_heterogeneity is not None:
            values["gradient_heterogeneity"] = self.gradient_heterogeneity
        return values


def diagnose(subject: Subject, plan: Plan) -> Diagnosis:
    """Measure what was planned; the model is left as it was found.

    Raises:
        UserError: a gradient or a loss is no finite number, there are too few batches, or the model cannot be
            differentiated twice.
    """
    labels = LabelCounts()
    try:
        with twice_differentiable(subject.model):
            started = time.perf_counter()
            rows = _noise(subject, plan, labels)
            between = time.perf_counter()
            distances, unequal = _curvature(subject, plan)
            ended = time.perf_counter()
    except FloatingPointError as error:
        raise UserError(f"{subject.source}: {error}") from error
    return Diagnosis(
        name=subject.name,
        plan=plan,
        overall=str(rows["overall"].verdict),
        tails={name: tail for name, statistic in TAILS.items() if (tail := _tail(rows.get(statistic))) is not None},
        distances=distances,
        gradient_heterogeneity=unequal,
        batch_norm=any(isinstance(module, BATCH_NORMS) for module in subject.model.modules()),
        imbalance=labels.imbalance(),
        seconds={"noise": between - started, "curvature": ended - between},
    )


def _noise(subject: Subject, plan: Plan, labels: LabelCounts) -> dict[str, TailRow]:
    """The tail report of the whole model, by statistic; the seeds are those of a run that measures at step 0."""
    model, seed = subject.model, derive_seed(subject.seed, "noise", 0)
    passes = subject.reference(REFERENCE_TIMES * plan.batches)
    total = length_hint(passes, REFERENCE_TIMES * plan.batches)
    passes = watched("reference gradient", labels.watch(passes), total)
    center = reference_gradient(model, subject.loss, passes, seed=seed)
    mini_batches = watched("noise", subject.mini_batches(plan.batches), plan.batches)
    reduction = Reduction(trained_parameters(model), NoiseSettings().coordinates, derive_seed(subject.seed, "noise"))
    noise = reduction.reduce(batch_noise(model, subject.loss, mini_batches, center, seed=seed))[ALL]
    if not noise.norms.any() or (noise.sketch == noise.sketch[0]).all():
        raise UserError(f"{subject.source}: the gradients of all batches are the same, so there is no noise to measure")
    return {row.statistic: row for row in tail_rows(noise, seed=seed)}


def _curvature(subject: Subject, plan: Plan) -> tuple[dict[str, Distance], float | None]:
    """Mean distances between the blocks, and how unequal their gradients are."""
    site = Site(subject.model, subject.loss, subject.curvature, {}, plan.effort, subject.seed)
    try:
        gradient = mean_gradient(subject.model, subject.loss, subject.curvature)
        with tempfile.TemporaryDirectory() as folder:
            spectra = {
                block.name: site.measure(Target("hessian", block), Path(folder))
                for block in watched("curvature", plan.blocks, len(plan.blocks))
            }
    except UserError as error:
        raise UserError(f"{subject.source}: {error}") from error
    means = heterogeneity(distance_rows(spectra))
    distances = {
        name: Distance(means[key].value, means[key].noise_floor) for name, key in DISTANCES.items() if key in means
    }
    of_blocks = {block.name: block.of(gradient) for block in plan.blocks}
    unequal = gradient_heterogeneity(of_blocks) if sum(bool(part.any()) for part in of_blocks.values()) > 1 else None
    return distances, unequal


def _tail(row: TailRow | None) -> Tail | None:
    if row is None or row.control_low is None or row.control_high is None:
        return None
    return Tail(row.value, row.control_low, row.control_high, str(row.verdict))
