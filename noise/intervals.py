"""Standard errors by leaving out groups of draws, and the intervals that follow from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from .series import Array, Statistic

Interval = tuple[float, float]

GROUPS = 16
UPPER_TAIL = 0.975
"""All intervals hold 95 %."""


def jackknife(scores: Callable[[NDArray[np.intp]], Array], draws: int) -> Array:
    """Standard errors of scores, from leaving out one of up to 16 groups of consecutive draws at a time.

    Only the draws need be independent. What is measured within one draw, such as the coordinates of one mini-batch's
    noise, may depend on each other in any way. Leaving out groups instead of single draws keeps it right for
    quantiles (Shao and Wu 1989, "A general theory for jackknife variance estimation", Annals of Statistics 17).

    Args:
        scores: from the indices of the draws that are kept to scores ``[statistics]``.
        draws: number of draws, at least 2.
    """
    everything = np.arange(draws)
    groups = np.array_split(everything, min(GROUPS, draws))
    replicates = np.stack([scores(np.delete(everything, group)) for group in groups])
    return np.sqrt((len(groups) - 1) * replicates.var(axis=0))


def jackknife_quantile(draws: int) -> float:
    """How many jackknife standard errors reach from an estimate to either end of its interval."""
    return float(stdtrit(min(GROUPS, draws) - 1, UPPER_TAIL))


NORMAL_QUANTILE = float(ndtri(UPPER_TAIL))
"""How many asymptotic standard errors reach from an estimate to either end of its interval."""


def interval(statistic: Statistic, score: float, half_width: float) -> Interval:
    """The ends of an interval, in the units that are printed and in ascending order."""
    ends = statistic.value(np.array([score - half_width, score + half_width]))
    return float(ends.min()), float(ends.max())
