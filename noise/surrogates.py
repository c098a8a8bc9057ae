"""The Gaussian control: what Gaussian noise with the same covariance would have looked like.

If the rows of a noise matrix G are independent draws of a Gaussian law, then QG has the same law as G for every
orthogonal Q that leaves the mean over the rows alone, whatever the covariance between the coordinates is. So a rotation
of the batches among each other turns the sample into a Gaussian surrogate of it, which has

- the same mean and the same scale of each coordinate, exactly: Σ_b G_bj and Σ_b G_bj² do not change;
- the same covariance between coordinates, exactly: neither does GᵀG;
- the same estimation errors: every scale, quantile and threshold is estimated on the surrogate again.

A statistic of the sample is then one of many exchangeable values, and its rank among them is an exact test, at 16
batches as at 1,000, for independent coordinates as for strongly correlated ones (Langsrud 2005, "Rotation tests",
Statistics and Computing 15). If the noise is not Gaussian, a rotation mixes the batches and washes the tail out: each
coordinate becomes a random mean of all its values and hence nearly Gaussian. Rows that depend on each other, as those
of an autoregression do, are no such draws: the test is not exact for them.

The rotations are random signs, a cosine transform and random signs again. They are not uniform among all rotations; the
test is exact all the same because sample and surrogates are all drawn, by the same rule, from one hidden centre (Besag
and Clifford 1989, "Generalized Monte Carlo significance tests", Biometrika 76).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import dct, idct

from ..seeds import derive_seed
from .statistics import Array

CHUNK_VALUES = 200_000
"""Surrogates are made and measured in stacks of about this many values, which fit a processor's cache."""

MOST_FOR_MATRICES = 128
"""Up to so many batches a matrix product is faster than a fast transform."""


def gaussian_surrogates(noise: ArrayLike, count: int, *, seed: int = 0) -> Array:
    """Gaussian surrogates of a noise sample, for pictures and for statistics of one's own.

    Surrogate i depends on the noise, the seed and i alone: more surrogates only add to them, and other coordinates
    beside a coordinate do not change its own.

    Args:
        noise: ``[batches, coordinates]``; the rows must be independent draws.
        count: number of surrogates.
        seed: chooses the rotations.

    Returns:
        ``[count, batches, coordinates]``.
    """
    by_coordinate = np.ascontiguousarray(np.asarray(noise, dtype=np.float64).T)
    stacks = list(rotations(by_coordinate, count, seed=seed))
    return np.concatenate(stacks).swapaxes(1, 2)


def rotations(rows: Array, count: int, *, seed: int) -> Iterator[Array]:
    """The same random rotations of the batches, applied to every row.

    Args:
        rows: ``[rows, batches]``: coordinates, projections, or anything else linear in the noise of a batch.
        count: number of surrogates.
        seed: chooses the rotations, which depend on nothing else but the number of batches.

    Yields:
        Stacks ``[some, rows, batches]`` of surrogates, ``count`` in all.
    """
    batches = rows.shape[-1]
    generator = np.random.default_rng(derive_seed(seed, "surrogates"))
    # Drawn in one call, surrogate by surrogate: how they are then cut into stacks makes no difference.
    signs = 2 * generator.integers(2, size=(1 + count, 2, batches - 1), dtype=np.int8) - 1
    # The first coefficient of a cosine transform is the mean over the batches; the others are free to rotate.
    spectrum = dct(rows, norm="ortho", axis=-1)
    mean, contrasts = spectrum[:, :1], spectrum[:, 1:]
    before, after = signs[0]
    centre = after * dct(before * contrasts, type=4, norm="ortho", axis=-1)
    rotate = _by_matrices(mean, centre) if batches <= MOST_FOR_MATRICES else _by_transforms(mean, centre)
    size = max(1, CHUNK_VALUES // rows.size)
    for start in range(1, 1 + count, size):
        yield rotate(signs[start : min(start + size, 1 + count)].astype(centre.dtype))


def _by_transforms(mean: Array, centre: Array) -> Callable[[Array], Array]:
    """Random signs, a cosine transform that is its own inverse, random signs: a rotation as likely as its inverse."""

    def rotate(signs: Array) -> Array:
        rotated = signs[:, 1, None] * dct(signs[:, 0, None] * centre, type=4, norm="ortho", axis=-1)
        means = np.broadcast_to(mean, (len(signs), *mean.shape))
        return np.asarray(idct(np.concatenate([means, rotated], axis=-1), norm="ortho", axis=-1, overwrite_x=True))

    return rotate


def _by_matrices(mean: Array, centre: Array) -> Callable[[Array], Array]:
    """The same, with one matrix ``[batches - 1, batches]`` per surrogate."""
    batches = centre.shape[-1] + 1
    cosines = dct(np.eye(batches - 1), type=4, norm="ortho", axis=-1).astype(centre.dtype)
    inverse = idct(np.eye(batches), norm="ortho", axis=-1)[1:].astype(centre.dtype)
    means = mean / np.sqrt(batches).astype(centre.dtype)

    def rotate(signs: Array) -> Array:
        rotated = centre @ ((signs[:, 0, :, None] * cosines) @ (signs[:, 1, :, None] * inverse))
        rotated += means
        return np.asarray(rotated)

    return rotate
