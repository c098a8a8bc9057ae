"""The size of a noise vector under any law, with or without a variance."""

from __future__ import annotations

from functools import lru_cache

import torch

from ..data.noise_laws import NoiseLaw
from ..errors import UserError

VECTORS = 401
LARGEST_SAMPLE = 5_000
"""Coordinates of the vectors that are drawn."""


@lru_cache(maxsize=64)
def typical_norm(law: NoiseLaw, coordinates: int) -> float:
    """The median Euclidean norm of vectors of independent draws, within a few per cent.

    Up to 5,000 coordinates it is the median of drawn vectors. Above, a law with a variance has √(coordinates · E x²)
    by the law of large numbers; without one the median grows as coordinates^(1/α), by the stable limit theorem.

    Raises:
        UserError: more than half of the vectors are 0.
    """
    variance = law.moment(2)
    if coordinates > LARGEST_SAMPLE and variance < torch.inf:
        return (coordinates * variance) ** 0.5
    drawn = min(coordinates, LARGEST_SAMPLE)
    vectors = law.draw((VECTORS, drawn), torch.Generator().manual_seed(0))
    median = float(torch.linalg.vector_norm(vectors, dim=1).median())
    if median == 0:
        raise UserError(f"{law.name}: noise on {coordinates} coordinates is 0 most of the time, it has no scale")
    return median * (coordinates / drawn) ** (1 / law.tail_index)
