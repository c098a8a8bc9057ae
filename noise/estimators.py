"""The tail index of one sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .extremes import hill, moment, pickands
from .intervals import NORMAL_QUANTILE, interval, jackknife, jackknife_quantile
from .series import Array, Series, Statistic
from .stable import block, ecf, mcculloch

FEWEST_SAMPLES = 20
TAIL_FRACTION = 0.05


@dataclass(frozen=True)
class TailEstimate:
    """A tail index with its 95 % interval.

    Attributes:
        alpha: P(|X| > x) falls like x^-alpha; infinite for a tail that falls faster than any power.
        ci_low: lower end of the interval.
        ci_high: upper end of the interval.
        samples: number of values in the sample.
        estimator: name of the estimator.
    """

    alpha: float
    ci_low: float
    ci_high: float
    samples: int
    estimator: str


@np.errstate(divide="ignore", invalid="ignore")
def tail_index(samples: ArrayLike, estimator: str, **options: int) -> TailEstimate:
    """Estimate the tail index α of independent values from one law.

    Never give it values of unequal scale pooled together: Gaussian values of unequal scale look heavy-tailed to every
    estimator. ``tail_report`` is the tool for a matrix of gradient noise.

    Args:
        samples: ``[n]`` values: positive ones (noise norms) for ``hill``, ``moment`` and ``pickands``; values
            symmetric about zero for ``mcculloch``, ``ecf`` and ``block``, which all assume an α-stable law.
        estimator: one of those six names; formulas and papers stand in ``noise/extremes.py`` and ``noise/stable.py``.
        **options: ``k``, the number of largest values used, for the positive estimators (5 % of the sample unless
            given; ``pickands`` looks at the 4k largest); ``length`` of a block for ``block`` (√n unless given).

    Returns:
        The estimate. Its interval is asymptotic for the positive estimators (the standard error of Hill's α̂ is α̂/√k,
        taken on the logarithmic scale); for the stable-law ones it comes from leaving out sixteenths of the sample.

    Raises:
        ValueError: an unknown estimator or option, an option out of range, fewer than 20 values, NaN or infinite
            values, values that are not positive where they must be, or too many equal values to find a scale.
    """
    if estimator not in _ESTIMATORS:
        raise ValueError(f"estimator: {estimator!r} is not one of {', '.join(_ESTIMATORS)}")
    values = _checked(samples, estimator)
    statistic = _ESTIMATORS[estimator](len(values), options)
    if options:
        raise ValueError(f"{estimator}: unknown option {', '.join(options)}")

    score = statistic(Series(values[None]))
    if not np.isfinite(score):
        raise ValueError(f"{estimator}: too many of the {len(values)} samples are equal or zero to find a tail index")
    if statistic.standard_error is not None:
        half_width = NORMAL_QUANTILE * float(statistic.standard_error(score))
    else:
        error = jackknife(lambda kept: statistic(Series(values[None, kept])), len(values))
        half_width = jackknife_quantile(len(values)) * float(error)
    low, high = interval(statistic, float(score), half_width)
    return TailEstimate(float(statistic.value(score)), low, high, len(values), estimator)


def tail_index_path(samples: ArrayLike, estimator: str, ks: Iterable[int]) -> list[TailEstimate]:
    """One estimate for each k of a range: a tail index can be trusted where the path is level.

    Args:
        samples: ``[n]`` positive values.
        estimator: ``hill``, ``moment`` or ``pickands``.
        ks: numbers of largest values to use.

    Raises:
        ValueError: as ``tail_index``.
    """
    return [tail_index(samples, estimator, k=k) for k in ks]


def _checked(samples: ArrayLike, estimator: str) -> Array:
    values = np.asarray(samples, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"{estimator}: samples must have one dimension, not {values.ndim}")
    if len(values) < FEWEST_SAMPLES:
        raise ValueError(f"{estimator}: {len(values)} samples are too few, at least {FEWEST_SAMPLES} are needed")
    if not np.isfinite(values).all():
        raise ValueError(f"{estimator}: samples must be finite, {np.count_nonzero(~np.isfinite(values))} are not")
    if estimator in ("hill", "moment", "pickands") and (values <= 0).any():
        raise ValueError(f"{estimator}: samples must be positive, give it norms or magnitudes")
    return values


def _option(options: dict[str, int], name: str, default: int, smallest: int, largest: int) -> int:
    """Take an option out of ``options``, or its default, if it is in range."""
    value = options.pop(name, default)
    if not isinstance(value, int | np.integer) or not smallest <= value <= largest:
        raise ValueError(f"{name}: {value} must be a whole number in {smallest}..{largest} for this sample")
    return value


_Builder = Callable[[int, dict[str, int]], Statistic]

_ESTIMATORS: dict[str, _Builder] = {
    "hill": lambda n, options: hill(_option(options, "k", round(TAIL_FRACTION * n), 1, n - 1)),
    "moment": lambda n, options: moment(_option(options, "k", max(2, round(TAIL_FRACTION * n)), 2, n - 1)),
    "pickands": lambda n, options: pickands(_option(options, "k", round(TAIL_FRACTION * n), 1, n // 4)),
    "mcculloch": lambda n, options: mcculloch(),
    "ecf": lambda n, options: ecf(),
    "block": lambda n, options: block(_option(options, "length", math.isqrt(n), 2, n // 2)),
}
