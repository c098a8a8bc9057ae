"""Verdicts on one statistic, on all of them together, and on whether the variance is infinite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from .intervals import Interval
from .series import Array

Verdict = Literal["light", "gaussian", "heavy", "infinite_variance"]
Departure = Literal["light", "gaussian", "heavy"]

SURROGATES = 119
"""Gaussian noise lies beyond all of its surrogates with probability 1/120 on either side: the joint verdict's level."""

BEYOND = 3
"""The third smallest and the third largest of 119 surrogates enclose 95 % of Gaussian samples."""

NORM_SLACK = 1.25
"""By what factor a norm's tail index may be read larger than its coordinates': Hill errs so far on stable vectors."""


def control_band(controls: Array) -> Interval:
    """The scores between which 95 % of Gaussian samples lie, from the scores of their surrogates ``[surrogates]``."""
    ordered = np.sort(controls)
    return float(ordered[BEYOND - 1]), float(ordered[-BEYOND])


def departure(score: float, band: Interval) -> Departure:
    """On which side of its control's band a score lies."""
    if score > band[1]:
        return "heavy"
    return "light" if score < band[0] else "gaussian"


def joint_departure(scores: Array, controls: Array) -> tuple[Departure, float]:
    """One test out of many statistics.

    Each statistic is put on a common scale: its distance from the median, in units of the distance that 5 % of sample
    and surrogates exceed on the same side. Then the most extreme statistic of the sample is compared with that of each
    surrogate. Gaussian noise is as likely to have the largest as any of its surrogates, however many statistics there
    are and however they depend on each other (Westfall and Young 1993, "Resampling-Based Multiple Testing"). A sample
    that is both heavy and light is called heavy.

    Args:
        scores: ``[statistics]`` of the sample.
        controls: ``[surrogates, statistics]``.

    Returns:
        The departure, and the probability that Gaussian noise looks as heavy as the sample.
    """
    everything = np.vstack([scores, controls])
    low, median, high = np.quantile(everything, [0.05, 0.5, 0.95], axis=0, method="inverted_cdf")
    usable = np.isfinite(low) & np.isfinite(high) & (low < median) & (median < high)
    distances = everything[:, usable] - median[usable]
    heaviest = (distances / (high - median)[usable]).max(axis=1, initial=-np.inf)
    lightest = (distances / (median - low)[usable]).min(axis=1, initial=np.inf)
    p_value = float(np.mean(heaviest >= heaviest[0]))
    if heaviest[0] > heaviest[1:].max():
        return "heavy", p_value
    return ("light" if lightest[0] < lightest[1:].min() else "gaussian"), p_value


def variance_is_infinite(
    norms: Mapping[str, Interval], coordinates: Mapping[str, Interval], across: Mapping[str, Interval]
) -> bool:
    """Whether the extreme-value estimators agree that the tail index is below 2.

    They do if all intervals of the noise norms lie below 2: over a range of k, which tells a power law from a few
    batches that are all larger than the rest.

    They also do if the intervals of single coordinates lie below 2 and nothing contradicts them. What can look like a
    power law in single coordinates is rare and bounded, as the gradient of a rare token's embedding. Then the largest
    coordinates of each batch are near their bound, or the norms have a lighter tail than the coordinates, which no
    true tail allows: the tail index of a norm is the smallest of its coordinates'.

    Args:
        norms: intervals of α by name of the statistic, of noise norms across iterations.
        coordinates: those of single coordinates across iterations; empty if none could be measured.
        across: those across the coordinates of single batches; empty if there are too few coordinates.
    """
    if all(high < 2 for _, high in norms.values()):
        return True
    if not coordinates or any(low > 2 for low, _ in [*coordinates.values(), *across.values()]):
        return False
    ends = [coordinates[name][1] for name in ("hill_0.05", "moment_0.05")]
    return all(end < 2 for end in ends) and norms["hill_0.2"][0] <= NORM_SLACK * max(ends)
