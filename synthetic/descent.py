"""Noisy gradient descent over thousands of trials at once, all rules on the same noise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..data.noise_laws import NoiseLaw
from .rules import Rule, row_norms

DRAWS_AT_ONCE = 200_000
"""Few enough to stay in a CPU's cache, many enough that drawing costs little besides arithmetic."""


@dataclass(frozen=True)
class Schedule:
    """Learning rate and threshold by the number k of the step, from 1 on."""

    lr: Callable[[int], float]
    clip: Callable[[int], float]


def strongly_convex_schedule(alpha: float, mu: float = 1.0) -> Schedule:
    """The rates 4/(mu(k + 1)) and the thresholds k^(1/alpha), which a rule multiplies by its G or B.

    Source: Zhang et al., NeurIPS 2020, arXiv:1912.03194, the theorems for strongly convex functions.
    """
    return Schedule(lambda step: 4 / (mu * (step + 1)), lambda step: step ** (1 / alpha))


def strongly_convex_rate(alpha: float) -> float:
    """The power of K with which GClip's f − f* falls: −2(α − 1)/α."""
    return -2 * (alpha - 1) / alpha


def non_convex_schedule(alpha: float, steps: int) -> Schedule:
    """The constants lr = K^(−α/(3α−2)) and clip = K^(1/(3α−2)) for K = ``steps`` steps.

    Source: Zhang et al., NeurIPS 2020, arXiv:1912.03194, the theorem for non-convex functions.
    """
    lr, clip = steps ** (-alpha / (3 * alpha - 2)), steps ** (1 / (3 * alpha - 2))
    return Schedule(lambda _: lr, lambda _: clip)


def non_convex_rate(alpha: float) -> float:
    """The power of K with which GClip's E‖∇f‖ falls: −(α − 1)/(3α − 2)."""
    return -(alpha - 1) / (3 * alpha - 2)


def noise_of_steps(law: NoiseLaw, shape: Sequence[int], steps: int, generator: Generator) -> Iterator[Tensor]:
    """Draws of ``shape``, one after another, ``steps`` of them."""
    at_once = max(1, DRAWS_AT_ONCE // torch.Size(shape).numel())
    for start in range(0, steps, at_once):
        yield from law.draw((min(at_once, steps - start), *shape), generator)


def averaged_errors(
    rules: Mapping[str, Rule],
    noise: Iterable[Tensor],
    start: Tensor,
    schedule: Schedule,
    checkpoints: Collection[int],
) -> dict[str, Tensor]:
    """Errors of the k-weighted average on f(x) = ‖x‖²/2, whose minimum is 0.

    The average is 2/(K(K+1)) · Σ k·x_k over the points x_1 … x_K at which gradients are taken.

    Args:
        rules: by name.
        noise: of the gradients, ``[trials, coordinates]`` a step; as many steps as it gives are taken.
        start: x_1, ``[trials, coordinates]``; it is not changed.
        schedule: of the steps.
        checkpoints: the K at which errors are taken.

    Returns:
        By rule, f(average) ``[checkpoints, trials]``.
    """
    points = {name: start.clone() for name in rules}
    averages = {name: torch.zeros_like(start) for name in rules}
    errors: dict[str, list[Tensor]] = {name: [] for name in rules}
    for step, draw in enumerate(noise, start=1):
        lr, clip = schedule.lr(step), schedule.clip(step)
        for name, rule in rules.items():
            x = points[name]
            averages[name].lerp_(x, 2 / (step + 1))
            rule(x, x + draw, lr, clip)
            if step in checkpoints:
                errors[name].append(averages[name].square().sum(dim=1).div_(2))
    return {name: torch.stack(values) for name, values in errors.items()}


def wavy_gradient(x: Tensor) -> Tensor:
    """The gradient of f(x) = Σ xᵢ²/2 + 3 sin² xᵢ, which has several minima and curvatures from −5 to 7."""
    return x + 3 * torch.sin(2 * x)


def mean_gradient_norms(
    rules: Mapping[str, Rule],
    noise: Iterable[Tensor],
    start: Tensor,
    schedule: Schedule,
    gradient: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    """‖∇f‖ on average over the points of each trial, which is its expectation at a point chosen at random.

    Args:
        rules: by name.
        noise: of the gradients, ``[trials, coordinates]`` a step.
        start: the first point, ``[trials, coordinates]``; it is not changed.
        schedule: of the steps.
        gradient: ∇f.

    Returns:
        By rule ``[trials]``.
    """
    points = {name: start.clone() for name in rules}
    means = {name: torch.zeros(len(start), 1, dtype=start.dtype) for name in rules}
    for step, draw in enumerate(noise, start=1):
        for name, rule in rules.items():
            exact = gradient(points[name])
            means[name].lerp_(row_norms(exact), 1 / step)
            rule(points[name], exact + draw, schedule.lr(step), schedule.clip(step))
    return {name: mean[:, 0] for name, mean in means.items()}
