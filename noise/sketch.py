"""The reduction of a noise sample to its norms, some coordinates and a sketch; the rest is not stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..seeds import derive_seed
from .gradients import Gradient

ALL = "all"
"""The scope of the whole model; the other scopes are the names of its parameters."""

WIDTHS = (1021, 2039, 4093, 8191, 16_381, 32_749)
"""Primes, so that the rows and columns of a weight matrix spread over all sums."""

SKETCH_WIDTH = WIDTHS[-1]
"""Of the whole model."""

SUMS_OF_LAYERS = 2**17
"""The sketches of all layers together have about as many sums."""

Values = NDArray[np.floating]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class ScopeNoise:
    """The noise samples of one layer or of the whole model.

    Attributes:
        norms: ``[samples]``: Euclidean norms over all coordinates of the scope.
        coordinates: ``[samples, kept]``: values of random coordinates.
        sketch: ``[samples, width]``: signed sums of all coordinates, the same sums in every sample.
        size: number of coordinates; None if it is the width of the sketch.
    """

    norms: Values
    coordinates: Values
    sketch: Values
    size: int | None = None


@dataclass(frozen=True)
class _Layer:
    start: int
    signs: Tensor
    positions: Tensor
    positions_of_all: Tensor


class Reduction:
    """Reduces noise samples to one ``ScopeNoise`` per scope.

    A sketch adds up coordinates with random signs, every w-th into the same of w sums. It is linear in the noise and
    preserves norms: exactly if there are at most w coordinates, else up to about 1/√(2w) (Charikar, Chen and
    Farach-Colton 2004, "Finding frequent items in data streams"). Of the whole model w is 32,749, which means 0.4 %; of
    a layer between that and 1,021, the less the more layers there are.

    Args:
        parameters: the trained parameters by name.
        coordinates: maximum number of coordinates kept per scope.
        seed: chooses coordinates and signs.

    Attributes:
        positions: by scope, the indices of the kept coordinates in its flattened tensors; those of the whole model are
            concatenated.
    """

    def __init__(self, parameters: Mapping[str, Tensor], coordinates: int, seed: int) -> None:
        generator = np.random.default_rng(derive_seed(seed, "coordinates"))
        fitting = [width for width in WIDTHS if width * len(parameters) <= SUMS_OF_LAYERS]
        self._layer_width = max(fitting, default=WIDTHS[0])
        sizes = [parameter.numel() for parameter in parameters.values()]
        scopes = zip([*parameters, ALL], [*sizes, sum(sizes)], strict=True)
        self.positions: dict[str, Positions] = {
            scope: np.sort(generator.choice(size, min(size, coordinates), replace=False)) for scope, size in scopes
        }
        self._sizes = [*sizes, sum(sizes)]
        self._layers = []
        start = 0
        for name, parameter in parameters.items():
            end = start + parameter.numel()
            of_all = self.positions[ALL]
            arrays = (
                generator.integers(2, size=end - start, dtype=np.int8) * 2 - 1,
                self.positions[name],
                of_all[(start <= of_all) & (of_all < end)] - start,
            )
            self._layers.append(_Layer(start, *(torch.from_numpy(array).to(parameter.device) for array in arrays)))
            start = end

    def reduce(self, noise: Iterable[Gradient], terms: Sequence[float] = ()) -> dict[str, ScopeNoise]:
        """All samples by scope, the whole model last.

        Args:
            noise: stacks of samples, ``[samples of the stack, *shape]`` per parameter.
            terms: number of loss terms behind each sample; read after ``noise``, which may fill it. The variance of a
                mean over n terms goes like 1/n: each sample is multiplied by √(n/n̄), so that samples of unequal size
                have equal variance, and the mean of their squared norms is that of a sample with n̄ terms.
        """
        stacks = []
        for stack in noise:
            columns = self._columns(stack)
            widths = [column.shape[1] for column in columns]
            stacks.append(torch.cat(columns, dim=1).cpu().numpy())
        values = np.concatenate(stacks)
        if len(set(terms)) > 1:
            sizes = np.asarray(terms, dtype=np.float64)
            values *= np.sqrt(sizes / sizes.mean()).astype(values.dtype)[:, None]
        parts = np.split(values, np.cumsum(widths)[:-1], axis=1)
        of_each_scope = zip(self.positions, parts[::3], parts[1::3], parts[2::3], self._sizes, strict=True)
        return {
            scope: ScopeNoise(norms[:, 0], coordinates, sketch, size)
            for scope, norms, coordinates, sketch, size in of_each_scope
        }

    def _columns(self, stack: Gradient) -> list[Tensor]:
        """Norm, kept coordinates and sketch of each layer, then of the whole model, all ``[samples, columns]``."""
        columns = []
        coordinates_of_all: list[Tensor] = []
        sketch_of_all = stack[0].new_zeros(len(stack[0]), SKETCH_WIDTH)
        for layer, noise in zip(self._layers, stack, strict=True):
            values = noise.flatten(1)
            signed = values * layer.signs
            sketch = _fold(signed, self._layer_width)
            columns += [
                torch.linalg.vector_norm(values, dim=1, keepdim=True),
                values[:, layer.positions],
                sketch,
            ]
            _add_folded(sketch_of_all, signed, layer.start % SKETCH_WIDTH)
            coordinates_of_all.append(values[:, layer.positions_of_all])
        norms = torch.cat(columns[::3], dim=1)
        return [
            *columns,
            torch.linalg.vector_norm(norms, dim=1, keepdim=True),
            torch.cat(coordinates_of_all, dim=1),
            sketch_of_all[:, : sum(len(layer.signs) for layer in self._layers)],
        ]


def _fold(values: Tensor, width: int) -> Tensor:
    """Sums over every ``width``-th column of ``[samples, columns]``, ``[samples, width]`` or fewer columns."""
    samples, size = values.shape
    if size <= width:
        return values
    complete = size - size % width
    sums = values[:, :complete].reshape(samples, complete // width, width).sum(dim=1)
    sums[:, : size - complete] += values[:, complete:]
    return sums


def _add_folded(sums: Tensor, values: Tensor, start: int) -> None:
    """Add to ``[samples, width]`` sums what ``_fold`` makes of the values, the first of which belongs to ``start``."""
    folded = _fold(values, sums.shape[1])
    before_end = min(folded.shape[1], sums.shape[1] - start)
    sums[:, start : start + before_end] += folded[:, :before_end]
    sums[:, : folded.shape[1] - before_end] += folded[:, before_end:]
