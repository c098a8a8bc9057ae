"""The Gaussian control: what Gaussian noise with the same covariance would have looked like.

If the rows of a noise matrix G are independent draws of a Gaussian law, then for every orthogonal matrix Q that leaves
the mean over the rows alone, QG has the same law as G — whatever the covariance between the coordinates is. So a
rotation of the batches among each other turns the sample into a Gaussian surrogate of it, which has

- the same mean and the same scale of each coordinate, exactly: Σ_b G_bj and Σ_b G_bj² do not change;
- the same covariance between coordinates, exactly: neither does GᵀG;
- the same estimation errors: every scale, quantile and threshold is estimated on the surrogate again.

A statistic of the sample is then one of many exchangeable values, and its rank among them is an exact test, at 16
batches as at 1,000, for independent coordinates as for strongly correlated ones (Langsrud 2005, "Rotation tests",
Statistics and Computing 15). If the noise is not Gaussian, a rotation mixes the batches and washes the tail out: each
coordinate becomes a random mean of all its values and hence nearly Gaussian.

The rotations are products of random signs and cosine transforms, so thousands of batches cost little. They are not
uniform among all rotations; the test is exact all the same because sample and surrogates are all drawn, by the same
rule, from one hidden centre (Besag and Clifford 1989, "Generalized Monte Carlo significance tests", Biometrika 76).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import dct, idct

from ..seeds import derive_seed
from .statistics import Array

CHUNK_VALUES = 200_000
"""Surrogates are made and measured in stacks of about this many values, which fit a processor's cache."""


def gaussian_surrogates(noise: ArrayLike, count: int, *, seed: int = 0) -> Array:
    """Gaussian surrogates of a noise sample, for pictures and for statistics of one's own.

    Args:
        noise: ``[batches, coordinates]``.
        count: how many surrogates.
        seed: the same seed gives the same surrogates.

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
        count: how many surrogates.
        seed: the same seed gives the same rotations.

    Yields:
        Stacks ``[some, rows, batches]`` of surrogates, ``count`` in all.
    """
    generator = np.random.default_rng(derive_seed(seed, "surrogates"))
    # The first coefficient of a cosine transform is the mean over the batches; the others are free to rotate.
    spectrum = dct(rows, norm="ortho", axis=-1)
    mean, contrasts = spectrum[:, :1], spectrum[:, 1:]
    centre = _rotate(contrasts, 1, generator)[0]
    stack = max(1, CHUNK_VALUES // rows.size)
    for start in range(0, count, stack):
        size = min(stack, count - start)
        rotated = _rotate(centre, size, generator)
        means = np.broadcast_to(mean, (size, *mean.shape))
        yield idct(np.concatenate([means, rotated], axis=-1), norm="ortho", axis=-1, overwrite_x=True)


def _rotate(contrasts: Array, count: int, generator: np.random.Generator) -> Array:
    """Random signs, a cosine transform that is its own inverse, random signs: a rotation as likely as its inverse."""
    before, after = generator.choice(np.array([-1, 1], dtype=contrasts.dtype), size=(2, count, 1, contrasts.shape[-1]))
    return after * dct(before * contrasts, type=4, norm="ortho", axis=-1)
