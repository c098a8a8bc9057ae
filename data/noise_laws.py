"""Noise laws of known tail index: settings that a config can name, exact draws, and moments in closed form.

All are centred: the mean is 0 where it exists, and the law is symmetric unless it says otherwise. ``tail_index`` is the
α of P(|x| > t) ∼ t^−α; the moments E|x|^order of order below α are finite, the others are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from ..settings import NamedSettings, Registry

if TYPE_CHECKING:
    from torch import Generator, Tensor


class NoiseLaw(NamedSettings):
    """The law of one noise coordinate; its settings are the law's parameters."""

    @property
    def tail_index(self) -> float:
        """α of the law's tail: its setting ``alpha``, if it has one; infinite where all moments exist."""
        return float(getattr(self, "alpha", math.inf))

    def draw(self, shape: Sequence[int], generator: Generator) -> Tensor:
        """Independent draws, float64, on the generator's device."""
        raise NotImplementedError

    def moment(self, order: float) -> float:
        """E|x|^order for an order above 0; infinite from the tail index on."""
        return self._finite_moment(order) if order < self.tail_index else math.inf

    def _finite_moment(self, order: float) -> float:
        raise NotImplementedError


class Gaussian(NoiseLaw):
    """Standard normal noise."""

    name: Literal["gaussian"] = "gaussian"

    def draw(self, shape: Sequence[int], generator: Generator) -> Tensor:
        """Standard normal draws."""
        import torch

        return torch.randn(*shape, dtype=torch.float64, device=generator.device, generator=generator)

    def _finite_moment(self, order: float) -> float:
        return 2 ** (order / 2) * math.gamma((order + 1) / 2) / math.sqrt(math.pi)


class StudentT(NoiseLaw):
    """Student's t law with alpha degrees of freedom."""

    paper = "Bailey, Mathematics of Computation 1994"

    name: Literal["student_t"] = "student_t"
    alpha: Annotated[float, Field(gt=0)] = 1.5

    def draw(self, shape: Sequence[int], generator: Generator) -> Tensor:
        """√(α(U^(−2/α) − 1)) · cos 2πV from uniform U and V."""
        radius = _uniform(shape, generator).pow_(-2 / self.alpha).sub_(1).mul_(self.alpha).sqrt_()
        return radius.mul_(_uniform(shape, generator).mul_(2 * math.pi).cos_())

    def _finite_moment(self, order: float) -> float:
        shape = math.gamma((order + 1) / 2) * math.gamma((self.alpha - order) / 2) / math.gamma(self.alpha / 2)
        return float(self.alpha ** (order / 2) * shape / math.sqrt(math.pi))


class Pareto(NoiseLaw):
    """Pareto's law P(y > t) = t^−alpha above 1, with a random sign or, one-sided, minus its mean.

    Attributes:
        alpha: the tail index.
        symmetric: y with a random sign; otherwise y − alpha/(alpha − 1), whose large values are all positive.
    """

    name: Literal["pareto"] = "pareto"
    alpha: Annotated[float, Field(gt=0)] = 1.5
    symmetric: bool = True

    @model_validator(mode="after")
    def _has_a_mean(self) -> Self:
        if not self.symmetric and self.alpha <= 1:
            raise ValueError(f"alpha: {self.alpha} gives no mean to subtract; above 1, or symmetric: true")
        return self

    def draw(self, shape: Sequence[int], generator: Generator) -> Tensor:
        """U^(−1/alpha) from a uniform U, signed or centred."""
        if not self.symmetric:
            return _uniform(shape, generator).pow_(-1 / self.alpha).sub_(self.alpha / (self.alpha - 1))
        uniform = _uniform(shape, generator).mul_(2).sub_(1)
        return uniform.abs().pow_(-1 / self.alpha).copysign_(uniform)

    def _finite_moment(self, order: float) -> float:
        if self.symmetric:
            return self.alpha / (self.alpha - order)
        from scipy.integrate import quad
        from scipy.special import beta

        mean = self.alpha / (self.alpha - 1)
        above = mean ** (order - self.alpha) * beta(self.alpha - order, order + 1)
        below, _ = quad(lambda value: (mean - value) ** order * value ** (-self.alpha - 1), 1, mean)
        return float(self.alpha * (above + below))

    def clipped_square(self, threshold: float) -> float:
        """E min(|x|, threshold)² of symmetric noise, for a threshold of at least 1."""
        if self.alpha == 2:
            return 1 + 2 * math.log(threshold)
        return (2 * threshold ** (2 - self.alpha) - self.alpha) / (2 - self.alpha)


class AlphaStable(NoiseLaw):
    """The symmetric α-stable law with characteristic function exp(−|t|^alpha); 2 is normal with variance 2."""

    paper = "Chambers, Mallows & Stuck, JASA 1976"

    name: Literal["alpha_stable"] = "alpha_stable"
    alpha: Annotated[float, Field(gt=0, le=2)] = 1.5

    @property
    def tail_index(self) -> float:
        """``alpha``; infinite for the normal law."""
        return self.alpha if self.alpha < 2 else math.inf

    def draw(self, shape: Sequence[int], generator: Generator) -> Tensor:
        """sin(αV)/cos(V)^(1/α) · (cos((1−α)V)/W)^((1−α)/α) from V uniform in (−π/2, π/2) and W exponential."""
        angle = _uniform(shape, generator).sub_(0.5).mul_(math.pi)
        exponential = _uniform(shape, generator).log_().neg_()
        power = (1 - self.alpha) / self.alpha
        scale = angle.mul(1 - self.alpha).cos_().div_(exponential).pow_(power)
        return angle.mul(self.alpha).sin_().div_(angle.cos_().pow_(1 / self.alpha)).mul_(scale)

    def _finite_moment(self, order: float) -> float:
        if self.alpha == 2:
            return 2 ** (order / 2) * Gaussian().moment(order)
        gammas = math.gamma((1 + order) / 2) * math.gamma(1 - order / self.alpha) / math.gamma(1 - order / 2)
        return 2**order * gammas / math.sqrt(math.pi)


class CoinFlip(NoiseLaw):
    """0, or with probability gamma^alpha ±1/gamma: bounded noise with E|x|^alpha = 1, however large it gets.

    Attributes:
        alpha: the order whose moment is 1.
        gamma: the smaller, the rarer and the larger.
    """

    paper = "lower bound of Zhang et al., NeurIPS 2020, arXiv:1912.03194"

    name: Literal["coin_flip"] = "coin_flip"
    alpha: Annotated[float, Field(gt=0)] = 1.5
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1

    @property
    def tail_index(self) -> float:
        """Infinite: the law is bounded."""
        return math.inf

    def draw(self, shape: Sequence[int], generator: Generator) -> Tensor:
        """The sign of a uniform U in (−1, 1) over gamma where |U| is small enough."""
        uniform = _uniform(shape, generator).mul_(2).sub_(1)
        return uniform.sign().div_(self.gamma).mul_(uniform.abs() <= self.gamma**self.alpha)

    def _finite_moment(self, order: float) -> float:
        return self.gamma ** (self.alpha - order)


NOISE_LAWS: Registry[NoiseLaw] = Registry("noise law", [Gaussian, StudentT, Pareto, AlphaStable, CoinFlip])


def _uniform(shape: Sequence[int], generator: Generator) -> Tensor:
    """Uniform draws in (0, 1], whose logarithm is finite."""
    import torch

    return 1 - torch.rand(*shape, dtype=torch.float64, device=generator.device, generator=generator)
