"""One measurement of gradient noise at fixed weights: the batches, their noise, its statistics and what is recorded.

``measure_noise`` does it for a run, ``gradient_noise`` for any model without a config or run folder. Examples are drawn
from random streams of their own, so training does not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..data.base import Examples, Key
from ..data.batches import BatchOrder
from ..errors import UserError
from ..progress import Track, untracked
from ..seeds import derive_seed
from ..tasks.base import Batch
from ..tasks.gradients import trained_parameters
from .gradients import Gradient, Loss, batch_noise, chunk_size, example_mode, example_noise, reference_gradient
from .norms import effective_dimension, gradient_noise_scale, running_variance
from .record import NoiseRow
from .report import LAYER_SURROGATES, SURROGATES, TailRow, judge, measure_tail
from .sample import NORM, NORM_QUANTILES
from .settings import Mode, NoiseSettings
from .sketch import ALL, Reduction, ScopeNoise, Values
from .statistics import Array
from .surrogates import rotations


@dataclass(frozen=True)
class Passes:
    """The batches of forward passes, fetched one at a time."""

    examples: Examples
    keys: list[list[Key]]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.examples.batch, self.keys)


class NoiseDraw:
    """The batches of one measurement: random examples, none drawn twice within an epoch.

    Args:
        examples: the training part.
        batch_size: examples of a mini-batch.
        micro_batch_size: maximum number of examples per forward pass; ``batch_size`` by default.
        seed: of the measurement.

    Raises:
        UserError: there are fewer examples than ``batch_size``.
    """

    def __init__(self, examples: Examples, batch_size: int, micro_batch_size: int | None, seed: int) -> None:
        if batch_size > len(examples):
            raise UserError(f"noise.batch_size: {batch_size} examples do not fit into the {len(examples)} to train on")
        self._examples = examples
        self._batch_size = batch_size
        self._pass_size = min(batch_size, micro_batch_size or batch_size)
        self._seed = seed

    def reference(self, batches: int | Literal["full"]) -> Passes:
        """The reference set: so many mini-batches of different examples, or the ``full`` training part if they fill it.

        Forward passes differ in size by at most 1: a small last one would have other BatchNorm statistics.
        """
        if batches == "full" or batches * self._batch_size >= len(self._examples):
            return self._cut(self._order("reference", "full").keys(0), self._pass_size)
        order = self._order("reference", self._batch_size)
        return self._cut([key for number in range(batches) for key in order.keys(number)], self._pass_size)

    def mini_batches(self, count: int) -> Iterator[Passes]:
        """The micro-batches of each of ``count`` mini-batches."""
        order = self._order("batches", self._batch_size)
        for number in range(count):
            yield self._cut(order.keys(number), self._pass_size)

    def single_examples(self, count: int, chunk_size: int) -> Passes:
        """Single examples in chunks of at most ``chunk_size``, and at most one forward pass each."""
        order = self._order("examples", 1)
        keys = [key for number in range(count) for key in order.keys(number)]
        return self._cut(keys, min(chunk_size, self._pass_size))

    def _order(self, axis: str, batch_size: int | Literal["full"]) -> BatchOrder:
        return BatchOrder(len(self._examples), batch_size, derive_seed(self._seed, axis))

    def _cut(self, keys: list[Key], size: int) -> Passes:
        """As few passes of at most ``size`` examples as possible; their sizes differ by at most 1."""
        parts = ceil(len(keys) / size)
        ends = [len(keys) * part // parts for part in range(parts + 1)]
        return Passes(self._examples, [keys[start:end] for start, end in pairwise(ends)])


NORM_QUANTILE = f"{NORM}/quantile_"


def describe(noise: ScopeNoise, *, seed: int) -> list[TailRow]:
    """All rows of one scope that stands alone."""
    return [*size_rows(noise, seed=seed), *tail_rows({ALL: noise}, seed=seed).get(ALL, [])]


def size_rows(noise: ScopeNoise, *, seed: int) -> Iterator[TailRow]:
    """The size of the noise."""
    yield TailRow("variance", float(np.mean(noise.norms.astype(np.float64) ** 2)))
    yield TailRow("running_variance/second_half_range", second_half_range(noise.norms, seed=seed))
    yield from (quantile_row(noise.norms, probability) for probability in NORM_QUANTILES)
    if _varies(noise.sketch):
        yield TailRow("effective_dimension", effective_dimension(noise.sketch, size=noise.size))


def tail_rows(noise: Mapping[str, ScopeNoise], *, seed: int, track: Track = untracked) -> dict[str, list[TailRow]]:
    """The tail report by scope: coordinates from the kept ones, norms and projections from the sketch.

    The whole model is judged by itself, the layers together, so that the probability of calling any layer of Gaussian
    noise anything else is 5 %. A scope is missing where the noise is constant (a gradient that is always zero).

    Args:
        noise: of one measurement, by scope.
        seed: chooses measured coordinates, projections and surrogates.
        track: shows progress.
    """
    varying = {scope: of_scope for scope, of_scope in noise.items() if _varies(of_scope.sketch)}
    measured = {
        scope: measure_tail(
            of_scope.coordinates,
            sketch=of_scope.sketch,
            seed=seed,
            surrogates=SURROGATES if scope == ALL else LAYER_SURROGATES,
        )
        for scope, of_scope in track("tail statistics", varying.items(), len(varying))
    }
    verdicts: dict[str, list[TailRow]] = {}
    for scopes in ([scope for scope in measured if scope != ALL], [scope for scope in measured if scope == ALL]):
        verdicts |= zip(scopes, judge([measured[scope] for scope in scopes]), strict=True)
    # ``quantile_row`` gives those of the true norms.
    return {
        scope: [*verdicts[scope], *(row for row in tail.rows if not row.statistic.startswith(NORM_QUANTILE))]
        for scope, tail in measured.items()
    }


def second_half_range(norms: Values, *, seed: int) -> float:
    """The range of V̂(n) over the second half of the samples, divided by V̂(N): the median over random orders.

    It falls like 1/√N if the noise has a finite variance.
    """
    running = running_variance(norms, seed=seed)
    ranges = np.ptp(running[:, running.shape[1] // 2 :], axis=1)
    return float(np.median(ranges) / running[0, -1]) if ranges.any() else 0.0


def quantile_row(norms: Values, probability: float) -> TailRow:
    """A quantile of noise norms with a distribution-free interval; an end that no order statistic gives is None."""
    # Imported late: it takes most of a second, and most runs measure no noise.
    from scipy.stats import quantile_test

    ends = quantile_test(norms, p=probability).confidence_interval(0.95)
    low, high = (None if np.isnan(end) else float(end) for end in (ends.low, ends.high))
    value = np.quantile(norms, probability, method="hazen")
    return TailRow(f"{NORM_QUANTILE}{probability:g}", float(value), low, high)


def surrogate_norms(noise: ScopeNoise, count: int, *, seed: int) -> Array:
    """Norms of Gaussian surrogates of the sketched samples, ``[count, samples]``."""
    # This factor keeps the inner products of the sketched samples and has shorter columns.
    rows = np.asarray(np.linalg.qr(noise.sketch.T.astype(np.float64), mode="r"))
    return np.concatenate([np.linalg.norm(stack, axis=1) for stack in rotations(rows, count, seed=seed)])


def _varies(values: Values) -> bool:
    return bool((values != values[0]).any())


ORDERS = 10
"""Random orders in which the running variance is recorded."""

RECORDED = 99
"""Gaussian surrogates whose norms are recorded."""

Kind = Literal["batch", "example"]


@dataclass(frozen=True)
class NoiseMeasurement:
    """What was measured at one step.

    Attributes:
        step: optimizer steps taken.
        rows: for noise.csv.
        samples: arrays of noise/step_*.npz by name. ``scopes`` names the columns of ``batch_norms``
            ``[samples, scopes]`` and ``batch_reference_norms`` ``[scopes]``; ``batch_coordinates/SCOPE``
            ``[samples, kept]`` holds the values at ``positions/SCOPE``. Of the whole model:
            ``batch_running_variance`` ``[orders, samples]``, and ``batch_gaussian_norms`` ``[surrogates, samples]``,
            the surrogates of ``batch_sketch_norms`` ``[samples]``. Single examples: the same with ``example_``.
    """

    step: int
    rows: list[NoiseRow]
    samples: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Reference:
    gradient: Gradient
    norms: dict[str, float]
    examples: int


@dataclass(frozen=True)
class _Sampled:
    kind: Kind
    batch_size: int
    mode: Mode
    reference: _Reference
    noise: dict[str, ScopeNoise]
    population: int

    def rows(self, step: int, seed: int, track: Track) -> list[NoiseRow]:
        samples = len(self.noise[ALL].norms)
        about: dict[str, Any] = {"samples": samples, "batch_size": self.batch_size, "mode": self.mode}
        tails = tail_rows(self.noise, seed=seed, track=track)
        return [
            NoiseRow(step=step, scope=scope, **vars(row), **about)
            for scope, noise in self.noise.items()
            for row in (*self._beside_reference(scope), *size_rows(noise, seed=seed), *tails.get(scope, []))
        ]

    def _beside_reference(self, scope: str) -> Iterator[TailRow]:
        norm = self.reference.norms[scope]
        yield TailRow("reference_norm", norm)
        if norm > 0 and self.population > self.batch_size:
            scale = gradient_noise_scale(
                self.noise[scope].norms,
                norm,
                batch_size=self.batch_size,
                reference_examples=self.reference.examples,
                population=self.population,
            )
            yield TailRow("noise_scale", scale.scale)

    def arrays(self, seed: int) -> dict[str, NDArray[Any]]:
        everything = self.noise[ALL]
        arrays = {
            "norms": np.stack([noise.norms for noise in self.noise.values()], axis=1),
            "reference_norms": np.array(list(self.reference.norms.values())),
            "running_variance": running_variance(everything.norms, orders=ORDERS, seed=seed),
            "gaussian_norms": surrogate_norms(everything, RECORDED, seed=seed),
            "sketch_norms": np.linalg.norm(everything.sketch, axis=1),
            **{f"coordinates/{scope}": noise.coordinates for scope, noise in self.noise.items()},
        }
        return {f"{self.kind}_{name}": array for name, array in arrays.items()}


def measure_noise(
    model: nn.Module,
    loss: Loss,
    examples: Examples,
    settings: NoiseSettings,
    *,
    batch_size: int,
    micro_batch_size: int | None = None,
    step: int = 0,
    seed: int = 0,
    track: Track = untracked,
) -> NoiseMeasurement:
    """Measure the noise of mini-batch gradients, and of single-example gradients if ``settings.examples`` is not 0.

    Args:
        model: unchanged afterwards: weights, ``.grad``, modes, running statistics; so are PyTorch's random streams.
        loss: what is minimised.
        examples: the training part.
        settings: numbers of samples, the reference and the mode.
        batch_size: examples per mini-batch.
        micro_batch_size: maximum number of examples per forward pass; ``batch_size`` by default.
        step: optimizer steps taken so far; batches and dropout depend on it.
        seed: the experiment's.
        track: shows progress.

    Raises:
        FloatingPointError: a gradient is NaN or infinite.
        UserError: there are fewer examples than ``batch_size``.
    """
    stream = derive_seed(seed, "noise", step)
    draw = NoiseDraw(examples, batch_size, micro_batch_size, stream)
    # The same coordinates at every step, so that steps can be compared.
    reduction = Reduction(trained_parameters(model), settings.coordinates, derive_seed(seed, "noise"))

    def find_reference(mode: Mode) -> _Reference:
        passes = draw.reference(settings.reference)
        batches = track("reference gradient", passes, len(passes))
        gradient = reference_gradient(model, loss, batches, mode=mode, seed=stream)
        reduced = reduction.reduce([[layer[None] for layer in gradient]])
        norms = {scope: float(of_scope.norms[0]) for scope, of_scope in reduced.items()}
        return _Reference(gradient, norms, len({index for keys in passes.keys for _, index in keys}))

    mode = settings.mode
    reference = find_reference(mode)
    batches = track("mini-batches", draw.mini_batches(settings.batches), settings.batches)
    terms: list[float] = []
    samples = batch_noise(model, loss, batches, reference.gradient, mode=mode, seed=stream, terms=terms)
    noise = reduction.reduce(samples, terms)
    sampled = [_Sampled("batch", batch_size, mode, reference, noise, len(examples))]
    if settings.examples:
        if mode != example_mode(model, mode):
            mode = example_mode(model, mode)
            reference = find_reference(mode)
        chunks = draw.single_examples(settings.examples, chunk_size(model))
        singles = track("single examples", chunks, len(chunks))
        terms = []
        samples = example_noise(model, loss, singles, reference.gradient, mode=mode, seed=stream, terms=terms)
        noise = reduction.reduce(samples, terms)
        sampled.append(_Sampled("example", 1, mode, reference, noise, len(examples)))

    arrays = {f"positions/{scope}": positions for scope, positions in reduction.positions.items()}
    for kind in sampled:
        arrays |= kind.arrays(stream)
    rows = [row for kind in sampled for row in kind.rows(step, stream, track)]
    return NoiseMeasurement(step, rows, {"scopes": np.array(list(noise)), **arrays})


def gradient_noise(
    model: nn.Module,
    loss: Loss,
    reference: Iterable[Batch],
    batches: Iterable[Batch],
    *,
    mode: Mode = "train",
    coordinates: int = 500,
    seed: int = 0,
) -> dict[str, ScopeNoise]:
    """Sample the noise of mini-batch gradients at a model's present weights, one gradient in memory at a time.

    Args:
        model: unchanged afterwards.
        loss: from the model and a batch to the summed loss and the number of its terms.
        reference: batches over which the gradient is exact: the whole training set, or enough of it.
        batches: the mini-batches, one noise sample each, drawn independently of each other. Where they differ in
            their number n of loss terms, each sample is multiplied by √(n/n̄): the variance of a mean goes like 1/n.
        mode: whether dropout is on and BatchNorm uses each batch's own statistics.
        coordinates: maximum number of random coordinates kept per parameter and of the whole model.
        seed: chooses the coordinates and the dropout.

    Returns:
        The samples by parameter name, and of the whole model under ``all``; ``tail_report`` takes their coordinates
        or sketch.

    Raises:
        FloatingPointError: a gradient is NaN or infinite.
        ValueError: a batch has no loss term.
    """
    center = reference_gradient(model, loss, reference, mode=mode, seed=seed)
    terms: list[float] = []
    noise = batch_noise(model, loss, ([batch] for batch in batches), center, mode=mode, seed=seed, terms=terms)
    return Reduction(trained_parameters(model), coordinates, seed).reduce(noise, terms)
