"""The coin-flip problem, and the least error that any method can have on it.

The problem: f_v(x) = ½(x − θ_v)², v = +1 or −1, unknown. A gradient at x is x − Z, where Z = v/γ with probability
q = γ^α and 0 otherwise. So E Z = v·γ^(α−1) = θ_v makes it unbiased, and E|Z|^α = 1 whatever γ.

The bound: x is known, so a method sees K copies of Z and nothing else. With probability (1 − q)^K all are 0, whichever
v it is; otherwise v is known. Whatever a method answers in the first case, ½(x − θ)² + ½(x + θ)² ≥ θ², so on average
over v, and all the more for the worse v, its expected error is at least

    ½ θ² (1 − q)^K = ½ q^s (1 − q)^K,    s = 2(α − 1)/α.

This is Le Cam's two-point bound with the exact total variation, 1 − (1 − q)^K. The method that answers 0 or θ_v has
that error, so the bound is exact for two points. It is largest at q = s/(s + K), where it falls as K^−s: the power of K
in GClip's guarantee is the best possible. Compare Zhang et al., NeurIPS 2020, arXiv:1912.03194, the lower bounds.
"""

from __future__ import annotations

from torch import Generator, Tensor

from ..data.noise_laws import CoinFlip
from .trials import strongly_convex_rate


def hardest_probability(alpha: float, steps: int) -> float:
    """The q at which the bound after ``steps`` gradients is largest, s/(s + K)."""
    s = -strongly_convex_rate(alpha)
    return s / (s + steps)


def least_error(alpha: float, steps: int) -> float:
    """½ q^s (1 − q)^K at the hardest q: on some problem every method's expected error is at least that."""
    q = hardest_probability(alpha, steps)
    return 0.5 * q ** -strongly_convex_rate(alpha) * (1 - q) ** steps


class CoinFlipProblem:
    """The hardest of the coin-flip problems for K = ``steps`` gradients, with v = +1.

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
