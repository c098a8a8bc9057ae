"""From the noise samples of one scope to the rows that describe them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .battery import NORM, NORM_QUANTILES
from .reduction import ScopeNoise, Values
from .references import effective_dimension
from .report import TailRow, tail_report
from .series import Array
from .surrogates import rotations
from .variance import running_variance

NORM_QUANTILE = f"{NORM}/quantile_"


def describe(noise: ScopeNoise, *, seed: int) -> Iterator[TailRow]:
    """The size of the noise, and its tail if it varies at all; it does not where the gradient is always zero."""
    yield plain_row("variance", float(np.mean(noise.norms.astype(np.float64) ** 2)))
    yield plain_row("running_variance/second_half_range", second_half_range(noise.norms, seed=seed))
    yield from (quantile_row(noise.norms, probability) for probability in NORM_QUANTILES)
    if _varies(noise.sketch):
        yield plain_row("effective_dimension", effective_dimension(noise.sketch))
        yield from tail_rows(noise, seed=seed)


def plain_row(statistic: str, value: float) -> TailRow:
    """A row that says nothing of a tail."""
    return TailRow(statistic, value, None, None, None, None, None)


def second_half_range(norms: Values, *, seed: int) -> float:
    """How far V̂(n) still moves in the second half of the samples, over V̂(N): the median over random orders.

    It falls like 1/√N if the noise has a finite variance.
    """
    running = running_variance(norms, seed=seed)
    ranges = np.ptp(running[:, running.shape[1] // 2 :], axis=1)
    return float(np.median(ranges) / running[0, -1]) if ranges.any() else 0.0


def quantile_row(norms: Values, probability: float) -> TailRow:
    """A quantile of noise norms; its interval lies between two order statistics and holds for every law."""
    # Most of a second to import, and most runs measure no noise.
    from scipy.stats import binom

    ordered = np.sort(norms)
    ranks = binom.ppf([0.025, 0.975], len(norms), probability).astype(int)
    low, high = ordered[np.minimum(ranks, len(norms) - 1)]
    value = np.quantile(norms, probability, method="hazen")
    return TailRow(f"{NORM_QUANTILE}{probability:g}", float(value), float(low), float(high), None, None, None)


def tail_rows(noise: ScopeNoise, *, seed: int) -> list[TailRow]:
    """The tail report on one scope: single coordinates from the kept ones, norms and projections from the sketch."""
    rows = tail_report(noise.coordinates, sketch=noise.sketch, seed=seed)
    # quantile_row has those of the true norms.
    return [row for row in rows if not row.statistic.startswith(NORM_QUANTILE)]


def surrogate_norms(noise: ScopeNoise, count: int, *, seed: int) -> Array:
    """Norms of Gaussian surrogates of the sketched samples, ``[count, samples]``."""
    # The columns of this factor have the inner products of the sketched samples, and are shorter.
    rows = np.asarray(np.linalg.qr(noise.sketch.T.astype(np.float64), mode="r"))
    return np.concatenate([np.linalg.norm(stack, axis=1) for stack in rotations(rows, count, seed=seed)])


def _varies(values: Values) -> bool:
    return bool((values != values[0]).any())
