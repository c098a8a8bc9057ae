"""How many iterations a method needs until a quadratic's loss is ``tolerance`` times its first value."""

from __future__ import annotations

import torch
from torch import Tensor

from .quadratics import Quadratics
from .rules import Rule

LARGEST = 2**40
"""Iterations beyond which no answer is sought; a double still counts them exactly."""


def preconditioned_iterations(quadratics: Quadratics, scale: Tensor, tolerance: float, lr_fractions: Tensor) -> Tensor:
    """Exact iterations of w ← w − lr · g/scale, at fractions of each trial's lr = 2/(μ_min + μ_max).

    With the eigenpairs (μ, v) of D^(−1/2) H D^(−1/2), D = diag(scale), the loss after k iterations is
    ½ Σ μ (1 − lr·μ)^2k (v·D^(1/2)w₀)². At fractions up to 1 it falls with k, which is found by bisection.

    Args:
        quadratics: the problems.
        scale: D, ``[trials, size]``, above 0; all 1 is gradient descent.
        tolerance: of the loss, relative to the first.
        lr_fractions: ``[settings]``; above 1 the iterations diverge, and mostly never reach the tolerance.

    Returns:
        ``[settings, trials]``; infinite where the tolerance is not reached.
    """
    root = scale.sqrt()
    values, vectors = torch.linalg.eigh(quadratics.hessian / (root.unsqueeze(1) * root.unsqueeze(2)))
    first = values * torch.einsum("tji,tj->ti", vectors, root * quadratics.start).square()
    target = tolerance * first.sum(1)
    lr = lr_fractions.view(-1, 1, 1) * 2 / (values[:, :1] + values[:, -1:])
    log_factor = 2 * (1 - lr * values).abs().log()
    low = torch.zeros(log_factor.shape[:2], dtype=torch.float64)
    high = torch.full_like(low, LARGEST)
    while bool((high - low > 1).any()):
        middle = torch.floor((low + high) / 2)
        reached = (first * (log_factor * middle.unsqueeze(-1)).exp()).sum(-1) <= target
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    return high.where(high < LARGEST, torch.inf)


def simulated_iterations(
    quadratics: Quadratics, rule: Rule, lr: Tensor, clip: Tensor, tolerance: float, most: int
) -> Tensor:
    """Iterations of a rule on every quadratic with every setting, by running them all.

    It ends early once the best setting's median is known and twice as many iterations have passed.

    Args:
        quadratics: the problems, ``trials`` of them.
        rule: takes a step of all rows at once, a fresh one.
        lr: ``[settings]``.
        clip: ``[settings]``; infinite where the rule does not clip.
        tolerance: of the loss, relative to the first.
        most: iterations after which to give up.

    Returns:
        ``[settings, trials]``; infinite where the tolerance was not reached.
    """
    w = quadratics.start.repeat(len(lr), 1, 1)
    lr, clip = lr.view(-1, 1, 1), clip.view(-1, 1, 1)
    gradient = quadratics.gradient(w)
    needed = torch.full(w.shape[:2], torch.inf, dtype=torch.float64)
    target = tolerance * (w * gradient).sum(-1)
    for iteration in range(1, most + 1):
        rule(w, gradient, lr, clip)
        gradient = quadratics.gradient(w)
        reached = ((w * gradient).sum(-1) <= target) & needed.isinf()
        needed[reached] = iteration
        if iteration % 50 == 0 and iteration >= 2 * float(needed.median(1).values.min()):
            break
    return needed
