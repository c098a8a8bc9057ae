"""The reduction of a noise sample to its norms, some coordinates and a sketch; the rest is not stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..seeds import derive_seed
from .gradients import Gradient

ALL = "all"
"""The scope of the whole model; the other scopes are the names of its parameters."""

SKETCH_WIDTH = 1021
"""Prime, so that the rows and columns of a weight matrix spread over all sums."""

Values = NDArray[np.floating]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class ScopeNoise:
    """The noise samples of one layer or of the whole model.

    Attributes:
        norms: ``[samples]``: Euclidean norms over all coordinates of the scope.
        coordinates: ``[samples, kept]``: values of random coordinates.
        sketch: ``[samples, width]``: signed sums of all coordinates, the same sums in every sample.
    """

    norms: Values
    coordinates: Values
    sketch: Values


@dataclass(frozen=True)
class _Layer:
    start: int
    signs: Tensor
    positions: Tensor
    positions_of_all: Tensor


class Reduction:
    """Reduces noise samples to one ``ScopeNoise`` per scope.

    A sketch adds up coordinates with random signs, every 1021st into the same sum. It is linear in the noise, and it
    preserves norms: exactly in a scope of at most 1021 coordinates, up to about 1/√(2·1021) = 2 % in a larger one
    (Charikar, Chen and Farach-Colton 2004, "Finding frequent items in data streams").

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
        sizes = [parameter.numel() for parameter in parameters.values()]
        scopes = zip([*parameters, ALL], [*sizes, sum(sizes)], strict=True)
        self.positions: dict[str, Positions] = {
            scope: np.sort(generator.choice(size, min(size, coordinates), replace=False)) for scope, size in scopes
        }
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

    def reduce(self, noise: Iterable[Gradient]) -> dict[str, ScopeNoise]:
        """All samples by scope, the whole model last.

        Args:
            noise: stacks of samples, ``[samples of the stack, *shape]`` per parameter.
        """
        stacks = []
        for stack in noise:
            columns = self._columns(stack)
            widths = [column.shape[1] for column in columns]
            stacks.append(torch.cat(columns, dim=1).cpu().numpy())
        pieces = np.split(np.concatenate(stacks), np.cumsum(widths)[:-1], axis=1)
        of_each_scope = zip(self.positions, pieces[::3], pieces[1::3], pieces[2::3], strict=True)
        return {scope: ScopeNoise(norms[:, 0], *others) for scope, norms, *others in of_each_scope}

    def _columns(self, stack: Gradient) -> list[Tensor]:
        """Norm, kept coordinates and sketch of each layer, then of the whole model, all ``[samples, columns]``."""
        columns = []
        coordinates_of_all, sketch_of_all = [], torch.zeros(())
        for layer, noise in zip(self._layers, stack, strict=True):
            values = noise.flatten(1)
            sketch = _fold(values * layer.signs)
            columns += [
                torch.linalg.vector_norm(values, dim=1, keepdim=True),
                values[:, layer.positions],
                sketch[:, : values.shape[1]],
            ]
            coordinates_of_all.append(values[:, layer.positions_of_all])
            sketch_of_all = sketch_of_all.to(sketch) + sketch.roll(layer.start % SKETCH_WIDTH, dims=1)
        norms = torch.cat(columns[::3], dim=1)
        return [
            *columns,
            torch.linalg.vector_norm(norms, dim=1, keepdim=True),
            torch.cat(coordinates_of_all, dim=1),
            sketch_of_all[:, : sum(len(layer.signs) for layer in self._layers)],
        ]


def _fold(values: Tensor) -> Tensor:
    """Sums over every ``SKETCH_WIDTH``-th column of ``[samples, columns]``, ``[samples, SKETCH_WIDTH]``."""
    samples, size = values.shape
    whole = size - size % SKETCH_WIDTH
    sums = values[:, :whole].reshape(samples, whole // SKETCH_WIDTH, SKETCH_WIDTH).sum(dim=1)
    sums[:, : size - whole] += values[:, whole:]
    return sums
