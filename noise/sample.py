"""A noise matrix made ready for measuring."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..seeds import derive_seed
from .battery import (
    COORDINATE,
    DENSE_ACROSS,
    DENSE_COORDINATE,
    FEWEST_ACROSS,
    NORM,
    PROJECTION,
    Battery,
    battery,
)
from .series import Array, Series

FEWEST_BATCHES = 8

SAMPLED_VALUES = 32_768
FEWEST_SAMPLED = 64
"""As many coordinates are measured as make about 32,768 values, and at least 64 if there are so many."""

PROJECTIONS = 32
COLUMNS_AT_ONCE = 65_536


@dataclass(frozen=True)
class NoiseSample:
    """What is measured of a noise matrix: rows that are all linear in the noise of a batch.

    Attributes:
        rows: ``[rows, batches]``: first the ``dense`` coordinates, then the rest of the ``coordinates``, then
            ``PROJECTIONS`` random projections, then the noise in an orthonormal basis of its span, where a batch has
            the norm that it has in full.
        dense: number of sampled coordinates with a scale of their own.
        coordinates: number of sampled coordinates.
        norm_unit: what projections and norms were divided by.
        sparse_fraction: estimated share of all coordinates that are not dense, the constant ones among them.
    """

    rows: Array
    dense: int
    coordinates: int
    norm_unit: float
    sparse_fraction: float

    @property
    def batches(self) -> int:
        """Number of mini-batches."""
        return self.rows.shape[-1]

    @cached_property
    def battery(self) -> Battery:
        """The statistics, in the order of their scores."""
        return battery(self.batches, self.coordinates, self.dense, self.norm_unit)

    def scores(self, stack: Array) -> Array:
        """Every statistic of every sample of a stack ``[..., rows, batches]``, as ``[..., statistics]``."""
        families = self._families(stack)
        scores = [statistic(families[family]) for family, statistic in self.battery]
        # A statistic without a value, such as a ratio of equal norms' distances, has seen no tail at all.
        return np.nan_to_num(np.stack(scores, axis=-1), nan=-np.inf, posinf=np.inf, neginf=-np.inf)

    def _families(self, stack: Array) -> dict[str, Series]:
        projections = self.coordinates + PROJECTIONS
        families = {
            NORM: Series(np.linalg.norm(stack[..., projections:, :], axis=-2, keepdims=True)),
            PROJECTION: Series(stack[..., self.coordinates : projections, :]),
        }
        if self.coordinates:
            families[COORDINATE] = Series(stack[..., : self.coordinates, :])
        if 0 < self.dense == self.coordinates:
            families[DENSE_COORDINATE] = families[COORDINATE]
        elif self.dense:
            families[DENSE_COORDINATE] = Series(stack[..., : self.dense, :])
        if self.dense >= FEWEST_ACROSS:
            standardised = families[DENSE_COORDINATE].standardised
            families[DENSE_ACROSS] = Series(np.ascontiguousarray(standardised.swapaxes(-1, -2)))
        return families


def prepare(noise: ArrayLike, sketch: ArrayLike | None = None, *, seed: int) -> NoiseSample:
    """Check a noise matrix and choose what is measured of it.

    Args:
        noise: ``[batches, coordinates]``, at least 8 batches.
        sketch: ``[batches, width]``, where norms and projections are taken from; ``noise`` by default.
        seed: chooses the sampled coordinates and the projections.

    Raises:
        ValueError: wrong number of dimensions, too few batches, no coordinates, NaN or infinite values, or noise that
            is the same in all batches.
    """
    matrix = _checked(np.asarray(noise))
    whole = matrix if sketch is None else _checked(np.asarray(sketch))
    if len(whole) != len(matrix):
        raise ValueError(f"sketch has {len(whole)} batches, noise has {len(matrix)}: they must be the same batches")
    if not _varying(whole).size:
        raise ValueError("noise is the same in every batch, there is nothing to measure")
    norm_unit = float(np.abs(whole).max())
    generator = np.random.default_rng(derive_seed(seed, "tail_report"))
    varying = _varying(matrix)
    count = min(len(varying), max(FEWEST_SAMPLED, SAMPLED_VALUES // len(matrix)))
    chosen = matrix[:, generator.choice(varying, count, replace=False)].T.astype(np.float64)
    tied = _tied(chosen)
    coordinates = np.concatenate([chosen[~tied], chosen[tied]])
    coordinates /= np.abs(coordinates).max(axis=1, keepdims=True)
    projections, basis = _projections_and_basis(whole, norm_unit, generator)
    dense = int((~tied).sum())
    return NoiseSample(
        # Single precision halves the time, and every statistic is a ratio or a logarithm of one.
        rows=np.concatenate([coordinates, projections, basis]).astype(np.float32),
        dense=dense,
        coordinates=count,
        norm_unit=norm_unit,
        sparse_fraction=1 - dense / max(1, count) * len(varying) / matrix.shape[1],
    )


def _checked(matrix: Array) -> Array:
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise ValueError(f"noise must have the shape [batches, coordinates], not {list(matrix.shape)}")
    if len(matrix) < FEWEST_BATCHES:
        raise ValueError(f"noise: {len(matrix)} batches are too few, at least {FEWEST_BATCHES} are needed")
    if not np.isfinite(matrix).all():
        raise ValueError(f"noise must be finite, {np.count_nonzero(~np.isfinite(matrix))} values are not")
    return matrix


def _varying(matrix: Array) -> NDArray[np.intp]:
    """The coordinates that are not the same in all batches."""
    return np.flatnonzero((matrix != matrix[0]).any(axis=0))


def _tied(coordinates: Array) -> NDArray[np.bool_]:
    """Which coordinates have no scale of their own: an exact zero, or one value in a quarter of the batches or more.

    A parameter that a batch does not touch has gradient 0 there, hence noise of exactly minus the reference gradient.
    Gaussian noise has no ties, so leaving tied coordinates out does not touch the control.
    """
    ordered = np.sort(coordinates, axis=1)
    reach = math.ceil(coordinates.shape[1] / 4) - 1
    return (ordered[:, reach:] == ordered[:, : ordered.shape[1] - reach]).any(axis=1) | (ordered == 0).any(axis=1)


def _projections_and_basis(matrix: Array, unit: float, generator: np.random.Generator) -> tuple[Array, Array]:
    """Random projections of the noise, and the noise in a basis of its span: ``[few, batches]`` each.

    Wide matrices are read in pieces, so that nothing of their size is copied.
    """
    batches, width = matrix.shape
    projections = np.zeros((PROJECTIONS, batches))
    gram = np.zeros((batches, batches))
    for start in range(0, width, COLUMNS_AT_ONCE):
        piece = matrix[:, start : start + COLUMNS_AT_ONCE].T.astype(np.float64) / unit
        projections += generator.standard_normal((PROJECTIONS, len(piece))) @ piece
        gram += piece.T @ piece
    if width <= batches:
        return projections, piece
    energies, directions = np.linalg.eigh(gram)
    return projections, (directions * np.sqrt(np.maximum(energies, 0))).T
