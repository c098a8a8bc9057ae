"""The best learning rate of a rule, and what chance has to do with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..grid import Best, best_point
from ..seeds import derive_seed
from .intervals import ends

RATES_PER_DECADE = 2
"""How finely learning rates are tried: 0.1, 0.316, 1 …"""

WIDENING = 2
"""How many rates are added beyond the best one when it lies at an end of those tried."""

Train = Callable[[Sequence[float]], Tensor]
"""From learning rates to final losses, ``[rates, seeds, …]``."""


@dataclass(frozen=True)
class Tried:
    """A rule at every learning rate that was tried.

    Attributes:
        rates: in ascending order, evenly spaced on a logarithmic scale.
        losses: final losses ``[rates, seeds, …]``.
    """

    rates: list[float]
    losses: Tensor

    @property
    def by_run(self) -> Tensor:
        """The loss of each run, ``[rates, seeds]``; infinite where it is not finite."""
        means = self.losses.double().flatten(2).mean(2) if self.losses.dim() > 2 else self.losses.double()
        return torch.where(means.isfinite(), means, math.inf)

    @property
    def best(self) -> int:
        """Which rate has the lowest mean loss over the seeds."""
        return self._best.index

    @property
    def at_edge(self) -> bool:
        """Whether a rate beyond those tried might have been better."""
        return self._best.at_edge

    @property
    def _best(self) -> Best:
        return best_point([{"lr": rate} for rate in self.rates], self.by_run.mean(1).tolist())


def try_rates(train: Train, lowest: float, highest: float, most: int = 16) -> Tried:
    """Try evenly spaced rates, and go on beyond the ends until the best rate is not at one.

    Args:
        train: runs a rule.
        lowest: the first rate; a power of the square root of 10.
        highest: the last one at first.
        most: where to stop, give or take one.
    """
    exponents = list(range(_exponent(lowest), _exponent(highest) + 1))
    tried = Tried(_rates(exponents), train(_rates(exponents)))
    while (tried.at_edge or len(exponents) == 1) and len(exponents) < most:
        # Where no run ended with a finite loss, the first rate is the best: only lower ones can help.
        if tried.best == 0:
            new = list(range(exponents[0] - WIDENING, exponents[0]))
            exponents, losses = new + exponents, torch.cat([train(_rates(new)), tried.losses])
        else:
            new = list(range(exponents[-1] + 1, exponents[-1] + 1 + WIDENING))
            exponents, losses = exponents + new, torch.cat([tried.losses, train(_rates(new))])
        tried = Tried(_rates(exponents), losses)
    return tried


def resamples(seeds: int, count: int, seed: int) -> Tensor:
    """Bootstrap samples of the seeds, int64 ``[count, seeds]``; those of the same ``seed`` pair different rules."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "bootstrap"))
    return torch.randint(seeds, (count, seeds), generator=generator)


def tuned(losses: Tensor, samples: Tensor, values: Tensor | None = None) -> Tensor:
    """What a rule reaches at its best learning rate, which is chosen anew in each bootstrap sample.

    Args:
        losses: ``[rates, seeds]``; the rate with the lowest mean is chosen.
        samples: int64 ``[samples, seeds]``, see ``resamples``.
        values: ``[rates, seeds]``, whose mean is reported at that rate; the losses themselves by default.

    Returns:
        ``[samples]``.
    """
    best = losses[:, samples].mean(2).argmin(0)
    means = (losses if values is None else values)[:, samples].mean(2)
    return means.gather(0, best[None])[0]


def with_interval(value: Callable[[Tensor], Tensor], seeds: int, count: int = 2000, seed: int = 0) -> list[float]:
    """A statistic of the seeds with the ends of its 95 % bootstrap interval, that of the percentiles.

    Args:
        value: from samples of the seeds, int64 ``[samples, seeds]``, to the statistic of each, ``[samples]``.
        seeds: how many there are.
        count: bootstrap samples.
        seed: of these samples.
    """
    everything = torch.arange(seeds)[None]
    low, high = ends(value(resamples(seeds, count, seed)).numpy())
    return [float(value(everything)), float(low), float(high)]


def _exponent(rate: float) -> int:
    return round(RATES_PER_DECADE * math.log10(rate))


def _rates(exponents: Sequence[int]) -> list[float]:
    return [10 ** (exponent / RATES_PER_DECADE) for exponent in exponents]
