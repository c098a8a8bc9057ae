"""Noisy gradient descent over thousands of independent trials at once, all rules on the same noise.

A trial is a row of ``x[..., trials, coordinates]``, with a norm of its own; gradients have the same shape. The rules
use the formulas of the project's own optimizers. Three problems: a strongly convex and a wavy one under any noise, and
coin flips, with the least error that any method can have on them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Generator, Tensor

from ..data.noise_laws import CoinFlip, NoiseLaw
from ..errors import UserError
from ..optimizers.acclip import ACClip
from ..optimizers.clipped_sgd import CClip, GClip
from ..optimizers.execution import State

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


Key = TypeVar("Key", bound=Hashable)
"""Tells rules apart."""

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
    rules: Mapping[Key, Rule],
    noise: Iterable[Tensor],
    start: Tensor,
    schedule: Schedule,
    checkpoints: Collection[int],
) -> dict[Key, Tensor]:
    """Errors of the k-weighted average on f(x) = ‖x‖²/2, whose minimum is 0.

    The average is 2/(K(K+1)) · Σ k·x_k over the points x_1 … x_K at which gradients are taken.

    Args:
        rules: by name.
        noise: of the gradients, ``[trials, coordinates]`` per step; as many steps as it gives are taken.
        start: x_1, ``[trials, coordinates]``; it is not changed.
        schedule: of the steps.
        checkpoints: the K at which errors are taken.

    Returns:
        By rule, f(average) ``[checkpoints, trials]``.
    """
    points = {name: start.clone() for name in rules}
    averages = {name: torch.zeros_like(start) for name in rules}
    errors: dict[Key, list[Tensor]] = {name: [] for name in rules}
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

    Args are those of ``averaged_errors``, and ``gradient``, ∇f. Returns ``[trials]`` by rule.
    """
    points = {name: start.clone() for name in rules}
    means = {name: torch.zeros(len(start), 1, dtype=start.dtype) for name in rules}
    for step, draw in enumerate(noise, start=1):
        for name, rule in rules.items():
            exact = gradient(points[name])
            means[name].lerp_(row_norms(exact), 1 / step)
            rule(points[name], exact + draw, schedule.lr(step), schedule.clip(step))
    return {name: mean[:, 0] for name, mean in means.items()}


class CoinFlipProblem:
    """The hardest of the coin-flip problems for K = ``steps`` gradients, with v = +1.

    The problem: f_v(x) = ½(x − θ_v)², v = +1 or −1, unknown. A gradient at x is x − Z, where Z = v/γ with probability
    q = γ^α and 0 otherwise. So E Z = v·γ^(α−1) = θ_v makes it unbiased, and E|Z|^α = 1 whatever γ.

    Attributes:
        law: of Z but for its sign.
        minimum: θ.
    """

    def __init__(self, alpha: float, steps: int) -> None:
        self.law = CoinFlip(alpha=alpha, gamma=hardest_probability(alpha, steps) ** (1 / alpha))
        self.minimum = self.law.gamma ** (alpha - 1)

    def noise(self, trials: int, generator: Generator) -> Tensor:
        """What a gradient adds to x − θ, that is θ − Z: ``[trials, 1]``."""
        return self.minimum - self.law.draw((trials, 1), generator).abs_()


def least_error(alpha: float, steps: int) -> float:
    """On some coin-flip problem every method's expected error after K = ``steps`` gradients is at least this.

    A method sees K copies of Z and nothing else. With probability (1 − q)^K all are 0, whichever v it is; otherwise v
    is known. Whatever a method answers in the first case, ½(x − θ)² + ½(x + θ)² ≥ θ², so on average over v, and all the
    more for the worse v, its expected error is at least

        ½ θ² (1 − q)^K = ½ q^s (1 − q)^K,    s = 2(α − 1)/α.

    This is Le Cam's two-point bound with the exact total variation, 1 − (1 − q)^K. The method that answers 0 or θ_v has
    that error, so the bound is exact for two points. At its largest it falls as K^−s: the power of K in GClip's
    guarantee is the best possible. Compare Zhang et al., NeurIPS 2020, arXiv:1912.03194, the lower bounds.
    """
    q = hardest_probability(alpha, steps)
    return 0.5 * q ** -strongly_convex_rate(alpha) * (1 - q) ** steps


def hardest_probability(alpha: float, steps: int) -> float:
    """The q at which the bound after ``steps`` gradients is largest, s/(s + K)."""
    s = -strongly_convex_rate(alpha)
    return s / (s + steps)


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
