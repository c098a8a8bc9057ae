"""The update rules over many trials at once, by the formulas of the project's own optimizers.

A trial is a row of ``x[..., trials, coordinates]``, with a norm of its own; gradients have the same shape. Nothing of a
trial reaches another.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..optimizers.acclip import ACClip
from ..optimizers.cclip import CClip
from ..optimizers.formula import State
from ..optimizers.gclip import GClip

Size = float | Tensor
"""The same for all trials, or a tensor that broadcasts to ``[..., trials, 1]``."""

Rule = Callable[[Tensor, Tensor, Size, Size], None]
"""``rule(x, gradient, lr, clip)`` takes one step of all trials in place; it may remember the steps before.

Rules that do not clip leave ``clip`` alone.
"""


def sgd(momentum: float = 0.0) -> Rule:
    """SGD as ``torch.optim`` has it: v ← momentum · v + g, x ← x − lr · v."""
    buffer: State = {}

    def step(x: Tensor, gradient: Tensor, lr: Size, clip: Size) -> None:
        if momentum:
            gradient = buffer.setdefault("v", torch.zeros_like(x)).mul_(momentum).add_(gradient)
        x.sub_(gradient * lr)

    return step


def projected_sgd(radius: float) -> Rule:
    """SGD, and back to the ball of ``radius`` around 0."""

    def step(x: Tensor, gradient: Tensor, lr: Size, clip: Size) -> None:
        x.sub_(gradient * lr)
        x.mul_((radius / row_norms(x)).clamp_(max=1))

    return step


def gclip(moment: float = 1.0) -> Rule:
    """GClip, x ← x − lr · min(moment · clip/‖g‖, 1) · g, with the norm of each trial."""

    def step(x: Tensor, gradient: Tensor, lr: Size, clip: Size) -> None:
        constants = {"factor": (moment * clip / row_norms(gradient)).clamp_(max=1)}
        x.sub_(GClip.direction(gradient, {}, constants) * lr)

    return step


def cclip(moment: float = 1.0) -> Rule:
    """CClip, x ← x − lr · clamp(g, −moment · clip, moment · clip)."""

    def step(x: Tensor, gradient: Tensor, lr: Size, clip: Size) -> None:
        x.sub_(CClip.direction(gradient, {}, {"clip": moment * clip}) * lr)

    return step


def acclip(betas: tuple[float, float] = (0.9, 0.99), eps: float = 1e-5, alpha: float = 1.0) -> Rule:
    """ACClip, the momentum clipped at its own running threshold."""
    state: State = {}
    constants = {"betas": betas, "eps": eps, "alpha": alpha, "second_moment": False}

    def step(x: Tensor, gradient: Tensor, lr: Size, clip: Size) -> None:
        for name in ("exp_avg", "exp_avg_power"):
            state.setdefault(name, torch.zeros_like(x))
        ACClip.accumulate(gradient, state, constants)
        x.sub_(ACClip.direction(gradient, state, constants) * lr)

    return step


def adam(betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Rule:
    """Adam as ``torch.optim`` has it, with bias correction (Kingma & Ba, ICLR 2015)."""
    state: State = {}
    steps = 0
    beta1, beta2 = betas

    def step(x: Tensor, gradient: Tensor, lr: Size, clip: Size) -> None:
        nonlocal steps
        steps += 1
        mean = state.setdefault("mean", torch.zeros_like(x)).lerp_(gradient, 1 - beta1)
        square = state.setdefault("square", torch.zeros_like(x)).lerp_(gradient.square(), 1 - beta2)
        denominator = (square / (1 - beta2**steps)).sqrt_().add_(eps)
        x.sub_((mean / (1 - beta1**steps)).div_(denominator) * lr)

    return step


def row_norms(x: Tensor) -> Tensor:
    """Euclidean norms ``[..., trials, 1]``."""
    return x.abs() if x.shape[-1] == 1 else torch.linalg.vector_norm(x, dim=-1, keepdim=True)
