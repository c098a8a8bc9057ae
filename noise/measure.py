"""One measurement of the gradient noise at one state of a model: sampling, statistics, and what is to be recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..data.settings import Examples
from ..seeds import derive_seed
from .drawing import NoiseDraw
from .gradients import Gradient, Loss, batch_noise, reference_gradient, trained_parameters
from .record import NoiseRow
from .reduction import ALL, Reduction, ScopeNoise
from .report import TailRow
from .settings import Mode, NoiseSettings
from .single_examples import chunk_size, example_mode, example_noise
from .summary import describe, plain_row, surrogate_norms
from .variance import gradient_noise_scale, running_variance

ORDERS = 10
"""In so many random orders the running variance is recorded."""

SURROGATES = 99
"""Of so many Gaussian surrogates the norms are recorded."""

Kind = Literal["batch", "example"]
Item = TypeVar("Item")


class Watch(Protocol):
    """Passes items on and shows how far they are."""

    def __call__(self, label: str, items: Iterable[Item], total: int) -> Iterable[Item]:
        """The same items, of which there are ``total``."""
        ...


@dataclass(frozen=True)
class NoiseMeasurement:
    """What was measured at one step.

    Attributes:
        step: optimizer steps taken.
        rows: for noise.csv.
        samples: for noise/step_*.npz, by name. ``scopes`` are the columns of ``batch_norms`` ``[samples, scopes]`` and
            of ``batch_reference_norms`` ``[scopes]``; ``batch_coordinates/SCOPE`` ``[samples, kept]`` are the values
            at ``positions/SCOPE``. Of the whole model there are ``batch_running_variance`` ``[orders, samples]``, and
            the norms of Gaussian surrogates, ``batch_gaussian_norms`` ``[surrogates, samples]``, which are to be
            compared with ``batch_sketch_norms`` ``[samples]``. Single examples have the same under ``example_``.
    """

    step: int
    rows: list[NoiseRow]
    samples: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Reference:
    gradient: Gradient
    norms: dict[str, float]
    examples: int
    is_full: bool


@dataclass(frozen=True)
class _Sampled:
    kind: Kind
    batch_size: int
    mode: Mode
    reference: _Reference
    noise: dict[str, ScopeNoise]

    def rows(self, step: int, seed: int, watch: Watch) -> list[NoiseRow]:
        scopes = watch(f"{self.kind} statistics", self.noise.items(), len(self.noise))
        samples = len(self.noise[ALL].norms)
        about: dict[str, Any] = {"samples": samples, "batch_size": self.batch_size, "mode": self.mode}
        return [
            NoiseRow(step=step, scope=scope, **vars(row), **about)
            for scope, noise in scopes
            for row in (*self._beside_reference(scope), *describe(noise, seed=seed))
        ]

    def _beside_reference(self, scope: str) -> Iterator[TailRow]:
        norm = self.reference.norms[scope]
        yield plain_row("reference_norm", norm)
        if norm > 0 and self.reference.examples > self.batch_size:
            scale = gradient_noise_scale(
                self.noise[scope].norms,
                norm,
                batch_size=self.batch_size,
                reference_examples=self.reference.examples,
                reference_holds_batches=self.reference.is_full,
            )
            yield plain_row("noise_scale", scale.scale)

    def arrays(self, seed: int) -> dict[str, NDArray[Any]]:
        everything = self.noise[ALL]
        arrays = {
            "norms": np.stack([noise.norms for noise in self.noise.values()], axis=1),
            "reference_norms": np.array(list(self.reference.norms.values())),
            "running_variance": running_variance(everything.norms, orders=ORDERS, seed=seed),
            "gaussian_norms": surrogate_norms(everything, SURROGATES, seed=seed),
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
    watch: Watch = lambda label, items, total: items,
) -> NoiseMeasurement:
    """Measure the noise of mini-batch gradients, and that of single-example gradients if the settings ask for them.

    Args:
        model: left as it is found: weights, ``.grad``, modes, running statistics; so are PyTorch's random streams.
        loss: what is minimised.
        examples: the training part.
        settings: how many samples of what.
        batch_size: examples of a mini-batch.
        micro_batch_size: most examples of one forward pass; those of a mini-batch by default.
        step: optimizer steps taken so far; batches and dropout depend on it.
        seed: the experiment's.
        watch: shows progress.

    Raises:
        FloatingPointError: a gradient is no finite number.
        UserError: there are fewer examples than a mini-batch takes.
    """
    stream = derive_seed(seed, "noise", step)
    draw = NoiseDraw(examples, batch_size, micro_batch_size, stream)
    # The same coordinates at every step, so that the steps can be compared.
    reduction = Reduction(trained_parameters(model), settings.coordinates, derive_seed(seed, "noise"))

    def find_reference(mode: Mode) -> _Reference:
        passes = draw.reference(settings.reference)
        batches = watch("reference gradient", passes, len(passes))
        gradient = reference_gradient(model, loss, batches, mode=mode, seed=stream)
        reduced = reduction.reduce([[layer[None] for layer in gradient]])
        norms = {scope: float(of_scope.norms[0]) for scope, of_scope in reduced.items()}
        return _Reference(gradient, norms, sum(map(len, passes.keys)), settings.reference == "full")

    mode = settings.mode
    reference = find_reference(mode)
    batches = watch("mini-batches", draw.mini_batches(settings.batches), settings.batches)
    noise = reduction.reduce(batch_noise(model, loss, batches, reference.gradient, mode=mode, seed=stream))
    sampled = [_Sampled("batch", batch_size, mode, reference, noise)]
    if settings.examples:
        if mode != example_mode(model, mode):
            mode = example_mode(model, mode)
            reference = find_reference(mode)
        chunks = draw.single_examples(settings.examples, chunk_size(model))
        singles = watch("single examples", chunks, len(chunks))
        noise = reduction.reduce(example_noise(model, loss, singles, reference.gradient, mode=mode, seed=stream))
        sampled.append(_Sampled("example", 1, mode, reference, noise))

    arrays = {f"positions/{scope}": positions for scope, positions in reduction.positions.items()}
    for kind in sampled:
        arrays |= kind.arrays(stream)
    rows = [row for kind in sampled for row in kind.rows(step, stream, watch)]
    return NoiseMeasurement(step, rows, {"scopes": np.array(list(noise)), **arrays})
