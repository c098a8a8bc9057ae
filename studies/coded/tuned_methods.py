"""The methods that are compared on quadratics, each with every setting of its grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...synthetic.intervals import Array
from ...synthetic.iterations import preconditioned_iterations, simulated_iterations
from ...synthetic.quadratics import Quadratics
from ...synthetic.rules import Rule, acclip, adam, cclip, gclip, sgd

LR_FRACTIONS = (*np.linspace(0.5, 0.95, 10).round(2).tolist(), 0.97, 0.98, 0.99, 0.995, 0.998, 1.0, 1.05)
"""Of the lr at which the smallest and the largest curvature contract alike; more than 1.0 diverges sooner or later."""

MOMENTA = (0.8, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.99)
MOMENTUM_FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05)
"""Of 2(1 + momentum)/(λ_min + λ_max), about the largest lr that does not diverge."""

ADAM_RATES = np.geomspace(1e-4, 10, 26).tolist()
"""Adam's step is about as long as its learning rate, whatever the scale of H."""

ACCLIP_FRACTIONS = np.geomspace(0.03, 100, 26).tolist()
"""Of gradient descent's best lr, as are the next."""

CLIPPED_FRACTIONS = (0.3, 0.7, 1.0, 10.0, 100.0, 1000.0)
LONGEST_STEPS = np.geomspace(1e-4, 10, 11).tolist()
"""lr · clip."""


@dataclass(frozen=True)
class Tuned:
    """A method with all its settings.

    Attributes:
        needed: iterations ``[settings, trials]``, infinite where the tolerance was not reached.
        settings: the hyperparameters of each.
    """

    needed: Array
    settings: Sequence[dict[str, float]]

    def is_at_edge(self, index: int) -> bool:
        """Whether a tuned hyperparameter is the least or the most that was tried."""
        for name, chosen in self.settings[index].items():
            tried = {setting[name] for setting in self.settings}
            if len(tried) > 1 and chosen in (min(tried), max(tried)):
                return True
        return False


@dataclass(frozen=True)
class Budget:
    """How exact a solution is asked for, and how many iterations are simulated at most."""

    tolerance: float
    most: int


Method = Callable[[Quadratics, Budget], Tuned]


def _preconditioned(scale: Callable[[Quadratics], Tensor], problems: Quadratics, budget: Budget) -> Tuned:
    fractions = torch.tensor(LR_FRACTIONS, dtype=torch.float64)
    needed = preconditioned_iterations(problems, scale(problems), budget.tolerance, fractions)
    return Tuned(needed.numpy(), [{"lr_fraction": fraction} for fraction in LR_FRACTIONS])


def _heavy_ball(problems: Quadratics, budget: Budget) -> Tuned:
    results = []
    for momentum in MOMENTA:
        rates = [fraction * (1 + momentum) * _best_rate(problems) for fraction in MOMENTUM_FRACTIONS]
        settings = [{"lr": lr, "lr_fraction": part} for lr, part in zip(rates, MOMENTUM_FRACTIONS, strict=True)]
        results.append(_simulated(partial(sgd, momentum), settings, problems, budget))
    settings = [
        {"momentum": momentum, **setting}
        for momentum, one in zip(MOMENTA, results, strict=True)
        for setting in one.settings
    ]
    return Tuned(np.concatenate([one.needed for one in results]), settings)


def _adam(betas: tuple[float, float], problems: Quadratics, budget: Budget) -> Tuned:
    return _simulated(partial(adam, betas), [{"lr": lr} for lr in ADAM_RATES], problems, budget)


def _acclip(problems: Quadratics, budget: Budget) -> Tuned:
    settings = [{"lr": fraction * _best_rate(problems)} for fraction in ACCLIP_FRACTIONS]
    return _simulated(acclip, settings, problems, budget)


def _clipped(rule: Callable[[], Rule], problems: Quadratics, budget: Budget) -> Tuned:
    settings = [
        {"lr": fraction * _best_rate(problems), "clip": step / (fraction * _best_rate(problems)), "longest_step": step}
        for fraction, step in product(CLIPPED_FRACTIONS, LONGEST_STEPS)
    ]
    return _simulated(rule, settings, problems, budget)


def _simulated(
    rule: Callable[[], Rule], settings: Sequence[dict[str, float]], problems: Quadratics, budget: Budget
) -> Tuned:
    lr = torch.tensor([setting["lr"] for setting in settings], dtype=torch.float64)
    clip = torch.tensor([setting.get("clip", torch.inf) for setting in settings], dtype=torch.float64)
    needed = simulated_iterations(problems, rule(), lr, clip, budget.tolerance, budget.most)
    return Tuned(needed.numpy(), settings)


def _best_rate(problems: Quadratics) -> float:
    """Gradient descent's 2/(λ_min + λ_max); all trials have the same eigenvalues."""
    values: Any = torch.linalg.eigvalsh(problems.hessian[0])
    return 2 / float(values[0] + values[-1])


METHODS: dict[str, Method] = {
    "sgd": partial(_preconditioned, lambda problems: torch.ones_like(problems.start)),
    "sgd_blockwise": partial(_preconditioned, Quadratics.block_scale),
    "adam_frozen": partial(_preconditioned, lambda problems: problems.gradient(problems.start).abs()),
    "adam_without_momentum": partial(_adam, (0.0, 0.999)),
    "gclip": partial(_clipped, gclip),
    "cclip": partial(_clipped, cclip),
    "sgd_momentum": _heavy_ball,
    "adam": partial(_adam, (0.9, 0.999)),
    "acclip": _acclip,
}
"""Adam with β₁ = 0 and β₂ = 1, v₀ = g₀², is ``adam_frozen``: its scale stays |g₀|."""
