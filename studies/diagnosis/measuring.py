"""Noise, curvature and class imbalance of an untrained network: the measures that ``blocks_and_gap`` has of others.

``make_plan`` says what will be computed, ``diagnose`` computes it. Class imbalance is counted from the batches on their
way to the noise measurement.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from math import sqrt
from operator import length_hint
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ...errors import UserError
from ...hessian.block_spectra import Effort
from ...hessian.blocks import Block, covering, select_blocks
from ...hessian.distances import distance_rows, heterogeneity
from ...hessian.measures import gradient_heterogeneity
from ...hessian.operators import HessianOperator, batch_norm_statistics, mean_gradient
from ...hessian.parallel import Inputs, Job
from ...hessian.settings import BatchNorm
from ...models.modules import has_batch_norm
from ...noise.gradients import batch_noise, reference_gradient
from ...noise.measure import tail_rows
from ...noise.report import TailRow
from ...noise.settings import NoiseSettings
from ...noise.sketch import ALL, Reduction
from ...noise.verdicts import FAMILIES
from ...progress import track
from ...seeds import derive_seed
from ...tasks.gradients import trained_parameters
from ..quantities import ABSOLUTE, COORDINATE_TAIL, JS_DISTANCE, NORM_TAIL, RELATIVE
from .subject import Subject

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Imbalance:
    """The class frequencies of the labels that were seen.

    Attributes:
        labels: their number.
        classes: the number of different ones; classes that were not seen are unknown.
        relative_entropy: entropy of the frequencies over its maximum, ln(classes); 1 if all are equal.
        rarest_half: share of the classes that together hold the rarer half of the labels; 0.5 if all are equal.
    """

    labels: int
    classes: int
    relative_entropy: float
    rarest_half: float


class LabelCounts:
    """Counts the labels in a stream of batches."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def track(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; their labels are counted."""
        for batch in batches:
            labels = find_labels(batch)
            if labels is not None:
                values, counts = labels[labels >= 0].unique(return_counts=True)
                self._counts.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
            yield batch

    def imbalance(self) -> Imbalance | None:
        """The imbalance; None if there were fewer than two classes."""
        if len(self._counts) < 2:
            return None
        counts = np.sort(np.fromiter(self._counts.values(), dtype=np.float64))
        shares = counts / counts.sum()
        # A class on the boundary counts with its share in the rarer half.
        rarest = np.interp(0.5, [0.0, *np.cumsum(shares)], np.arange(len(shares) + 1))
        return Imbalance(
            labels=int(counts.sum()),
            classes=len(counts),
            relative_entropy=float(-(shares * np.log(shares)).sum() / np.log(len(shares))),
            rarest_half=float(rarest) / len(shares),
        )


def find_labels(batch: Any) -> Tensor | None:
    """The labels of a batch; negative ones are ignored labels.

    They are ``batch["labels"]`` or ``batch["label"]``, the last element of a tuple or list, or the batch itself
    (tokens); None if that is not a tensor of integers.
    """
    if isinstance(batch, Mapping):
        found = batch.get("labels", batch.get("label"))
    elif isinstance(batch, tuple | list) and batch:
        found = batch[-1]
    else:
        found = batch
    is_integer = isinstance(found, Tensor) and found.dtype in (torch.uint8, torch.int16, torch.int32, torch.int64)
    return found if is_integer else None


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Inside, operations without a second derivative are replaced by equal ones: cuDNN's RNNs, hard sigmoids.

    Fused attention is replaced in ``hessian.operators``.
    """
    is_recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with torch.backends.cudnn.flags(enabled=False) if is_recurrent else nullcontext(), _Substituting():
        yield


def _hardsigmoid(values: Tensor, inplace: bool = False) -> Tensor:
    return functional.relu6(values + 3) / 6


SUBSTITUTES: Mapping[Callable[..., Any], Callable[..., Any]] = {functional.hardsigmoid: _hardsigmoid}


class _Substituting(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return SUBSTITUTES.get(func, func)(*args, **(kwargs or {}))


REFERENCE_TIMES = 2
"""Mini-batches of the reference gradient over those of the noise, as in the study."""


@dataclass(frozen=True)
class Plan:
    """What a diagnosis will compute.

    Attributes:
        batches: mini-batches, that is samples of the noise.
        blocks: whose spectra are measured.
        effort: Lanczos steps and probes per block.
        gradients: number of mini-batch gradients, at most.
        products: number of Hessian-vector products of blocks.
    """

    batches: int
    blocks: Sequence[Block]
    effort: Effort
    gradients: int
    products: int


def make_plan(subject: Subject, *, batches: int, probes: int, steps: int, blocks: int | Sequence[str]) -> Plan:
    """What a diagnosis will compute.

    Args:
        subject: the network with its data.
        batches: samples of the noise.
        probes: per block.
        steps: Lanczos steps per probe.
        blocks: at most this many weight matrices, evenly spaced over the network; or globs for names of blocks.

    Raises:
        UserError: no block has such a name.
    """
    if isinstance(blocks, int):
        chosen = _spread(select_blocks(subject.model, "weights"), blocks)
    else:
        chosen = select_blocks(subject.model, blocks)
    effort = Effort(steps=steps, probes=probes)
    parameters = dict(subject.model.named_parameters())
    sizes = [block.size(parameters) for block in chosen]
    products = sum(min(size, effort.products(size)) for size in sizes)
    return Plan(batches, chosen, effort, (1 + REFERENCE_TIMES) * batches, products)


def _spread(blocks: Sequence[Block], count: int) -> list[Block]:
    """``count`` of the blocks, evenly spaced from the first to the last."""
    if count >= len(blocks):
        return list(blocks)
    return [blocks[round(place * (len(blocks) - 1) / max(1, count - 1))] for place in range(count)]


TAILS = {"norm_tail0": NORM_TAIL, "coordinate_tail0": COORDINATE_TAIL}
"""Tail statistics, by the study's quantity for their ratio to the control."""

DISTANCES = {
    "js0": (JS_DISTANCE, RELATIVE),
    "js0_absolute": (JS_DISTANCE, ABSOLUTE),
    "scale_free_js0": (f"scale_free_{JS_DISTANCE}", RELATIVE),
}
"""Distance and smoothing, by the study's quantity for the mean over pairs of blocks."""


@dataclass(frozen=True)
class Tail:
    """A tail index and the 95 % range of Gaussian surrogates of the same noise.

    Attributes:
        index: Hill's estimate of α.
        control_low: lower end of the Gaussian range.
        control_high: upper end.
        verdict: of the index against that range.
    """

    index: float
    control_low: float
    control_high: float
    verdict: str

    @property
    def over_control(self) -> float:
        """The index over the geometric mean of the Gaussian range's ends; below 1 is heavier than Gaussian."""
        return self.index / sqrt(self.control_low * self.control_high)


@dataclass(frozen=True)
class Distance:
    """The mean Jensen–Shannon distance over all pairs of blocks, and its noise floor."""

    value: float
    noise_floor: float


@dataclass(frozen=True)
class Diagnosis:
    """The measures of an untrained network.

    Attributes:
        name: of the subject.
        plan: what was computed.
        verdicts: on the noise, by family of statistics: norms first.
        tails: by the keys of ``TAILS``; a statistic that does not exist is missing.
        distances: by the keys of ``DISTANCES``; empty if there are fewer than two blocks.
        gradient_heterogeneity: standard deviation of the logarithms of the blocks' root-mean-square gradients; None of
            fewer than two blocks.
        batch_norm: what BatchNorm layers normalised by where the curvature was measured; None without such layers.
        left_out: which batches were left out of the noise, in words; empty if none.
        imbalance: of the labels; None if the batches have none that can be recognised.
        seconds: by part.
    """

    name: str
    plan: Plan
    verdicts: Mapping[str, str]
    tails: Mapping[str, Tail]
    distances: Mapping[str, Distance]
    gradient_heterogeneity: float | None
    batch_norm: BatchNorm | None
    left_out: str
    imbalance: Imbalance | None
    seconds: Mapping[str, float]

    @property
    def values(self) -> dict[str, float]:
        """The measures that the study has of its networks, by the names of its quantities."""
        values = {name: tail.over_control for name, tail in self.tails.items()}
        values |= {name: distance.value for name, distance in self.distances.items()}
        if self.gradient_heterogeneity is not None:
            values["gradient_heterogeneity"] = self.gradient_heterogeneity
        return values


def diagnose(subject: Subject, plan: Plan) -> Diagnosis:
    """Measure what was planned; the model is unchanged afterwards.

    Raises:
        UserError: a gradient or a loss is NaN or infinite, there are too few batches, or the model cannot be
            differentiated twice.
    """
    labels = LabelCounts()
    try:
        with twice_differentiable(subject.model):
            started = time.perf_counter()
            rows = _noise(subject, plan, labels)
            between = time.perf_counter()
            with _statistics_of_batch_norm(subject):
                distances, unequal = _curvature(subject, plan)
            ended = time.perf_counter()
    except FloatingPointError as error:
        raise UserError(f"{subject.source}: {error}") from error
    return Diagnosis(
        name=subject.name,
        plan=plan,
        verdicts={family: str(rows[family].verdict) for family in FAMILIES if family in rows},
        tails={name: tail for name, statistic in TAILS.items() if (tail := _tail(rows.get(statistic))) is not None},
        distances=distances,
        gradient_heterogeneity=unequal,
        batch_norm=subject.batch_norm if has_batch_norm(subject.model) else None,
        left_out=subject.left_out(),
        imbalance=labels.imbalance(),
        seconds={"noise": between - started, "curvature": ended - between},
    )


def _noise(subject: Subject, plan: Plan, labels: LabelCounts) -> dict[str, TailRow]:
    """The tail report of the whole model, by statistic, with the seeds of a run that measures at step 0."""
    model, seed = subject.model, derive_seed(subject.seed, "noise", 0)
    passes = subject.reference(REFERENCE_TIMES * plan.batches)
    total = length_hint(passes, REFERENCE_TIMES * plan.batches)
    passes = track("reference gradient", labels.track(passes), total)
    center = reference_gradient(model, subject.loss, passes, seed=seed)
    mini_batches = track("noise", subject.mini_batches(plan.batches), plan.batches)
    reduction = Reduction(trained_parameters(model), NoiseSettings().coordinates, derive_seed(subject.seed, "noise"))
    noise = reduction.reduce(batch_noise(model, subject.loss, mini_batches, center, seed=seed))[ALL]
    if not noise.norms.any() or (noise.sketch == noise.sketch[0]).all():
        raise UserError(f"{subject.source}: the gradients of all batches are the same, so there is no noise to measure")
    return {row.statistic: row for row in tail_rows({ALL: noise}, seed=seed)[ALL]}


@contextmanager
def _statistics_of_batch_norm(subject: Subject) -> Iterator[None]:
    """What the subject's BatchNorm layers normalise by, with an error that names the subject."""
    try:
        with batch_norm_statistics(subject.model, subject.loss, subject.curvature, subject.batch_norm):
            yield
    except UserError as error:
        if "hessian.batch_norm" not in str(error):
            raise
        raise UserError(f"{subject.source}: BatchNorm needs several examples in a batch, and here finds one") from error


def _curvature(subject: Subject, plan: Plan) -> tuple[dict[str, Distance], float | None]:
    """Mean distances between the blocks, and the heterogeneity of their gradients."""
    inputs = Inputs(subject.model, subject.loss, subject.curvature, {}, plan.effort, subject.seed, subject.batch_norm)
    try:
        HessianOperator(subject.model, subject.loss, subject.curvature, covering(plan.blocks)).check_symmetry()
        gradient = mean_gradient(subject.model, subject.loss, subject.curvature)
        with tempfile.TemporaryDirectory() as folder:
            spectra = {
                block.name: inputs.measure(Job("hessian", block), Path(folder))
                for block in track("curvature", plan.blocks, len(plan.blocks))
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
