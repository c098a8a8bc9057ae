"""Each law against its closed forms: distribution function, characteristic function, moments, and scipy's own laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from whyadam.data.noise_laws import NOISE_LAWS, AlphaStable, CoinFlip, Gaussian, NoiseLaw, Pareto, StudentT

DRAWS = 200_000

LAWS = [
    Gaussian(),
    StudentT(alpha=1.5),
    StudentT(alpha=4),
    Pareto(alpha=1.5),
    Pareto(alpha=3),
    Pareto(alpha=1.5, symmetric=False),
    Pareto(alpha=3, symmetric=False),
    AlphaStable(alpha=1.2),
    AlphaStable(alpha=1.0),
    AlphaStable(alpha=2.0),
    CoinFlip(alpha=1.5, gamma=0.3),
]


def draws(law: NoiseLaw, count: int = DRAWS) -> torch.Tensor:
    return law.draw((count,), torch.Generator().manual_seed(1))


def distribution(law: NoiseLaw) -> stats.rv_continuous:
    """The same law in scipy."""
    if isinstance(law, StudentT):
        return stats.t(law.alpha)
    if isinstance(law, AlphaStable):
        return {1.0: stats.cauchy(), 2.0: stats.norm(scale=math.sqrt(2))}[law.alpha]
    if isinstance(law, Pareto):
        return stats.pareto(law.alpha, loc=-law.alpha / (law.alpha - 1))
    return stats.norm()


@pytest.mark.parametrize(
    "law",
    [
        Gaussian(),
        StudentT(alpha=1.5),
        StudentT(alpha=4),
        AlphaStable(alpha=1.0),
        AlphaStable(alpha=2.0),
        Pareto(alpha=1.5, symmetric=False),
    ],
    ids=str,
)
def test_the_whole_distribution_is_scipys(law: NoiseLaw) -> None:
    assert stats.kstest(draws(law).numpy(), distribution(law).cdf).pvalue > 1e-3


def test_the_symmetric_pareto_law_is_pareto_with_fair_signs() -> None:
    values = draws(Pareto(alpha=1.3)).numpy()
    assert stats.kstest(np.abs(values), stats.pareto(1.3).cdf).pvalue > 1e-3
    assert stats.binomtest(int((values > 0).sum()), DRAWS).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.7, 1.2, 1.5, 1.8, 2.0])
def test_the_characteristic_function_of_the_stable_law(alpha: float) -> None:
    """Six standard errors of the mean of cos(tx), whose variance is (1 + φ(2t))/2 − φ(t)²; catches a wrong scale."""
    values = draws(AlphaStable(alpha=alpha))
    for t in (0.1, 0.5, 1.0, 2.0):
        wanted = math.exp(-(t**alpha))
        error = math.sqrt(((1 + math.exp(-((2 * t) ** alpha))) / 2 - wanted**2) / DRAWS)
        assert float((t * values).cos().mean()) == pytest.approx(wanted, abs=6 * error)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_moments_are_those_of_the_draws(law: NoiseLaw) -> None:
    """At an order below half the tail index, where the sample mean has a standard error."""
    order = min(1.3, 0.45 * law.tail_index)
    powers = draws(law).abs() ** order
    assert float(powers.mean()) == pytest.approx(law.moment(order), abs=5 * float(powers.std()) / math.sqrt(DRAWS))


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_a_moment_is_infinite_from_the_tail_index_on(law: NoiseLaw) -> None:
    if math.isinf(law.tail_index):
        assert math.isfinite(law.moment(8))
    else:
        assert math.isinf(law.moment(law.tail_index))
        assert law.moment(0.99 * law.tail_index) > law.moment(0.5 * law.tail_index) > 0


@pytest.mark.parametrize("law", [StudentT(alpha=4), Pareto(alpha=3, symmetric=False), AlphaStable(alpha=2.0)], ids=str)
def test_second_moments_are_scipys_variances(law: NoiseLaw) -> None:
    assert law.moment(2) == pytest.approx(distribution(law).var(), rel=1e-9)


def test_the_coin_flip_has_its_three_values_and_unit_moment() -> None:
    law = CoinFlip(alpha=1.5, gamma=0.25)
    values = draws(law)
    assert set(values.tolist()) == {0.0, 4.0, -4.0}
    assert law.moment(1.5) == 1.0
    assert stats.binomtest(int((values != 0).sum()), DRAWS, 0.125).pvalue > 1e-3


def test_draws_depend_on_the_seed_alone() -> None:
    for law in LAWS:
        assert torch.equal(draws(law, 50), draws(law, 50))
        assert draws(law, 50).dtype == torch.float64
        assert law.draw((3, 4), torch.Generator()).shape == (3, 4)


def test_a_config_can_name_each_law_and_a_wrong_parameter_is_refused() -> None:
    assert [NOISE_LAWS.choose({"name": name}).draw((2,), torch.Generator()).shape for name in NOISE_LAWS] == [(2,)] * 5
    with pytest.raises(ValidationError, match="less than or equal to 2"):
        NOISE_LAWS.choose({"name": "alpha_stable", "alpha": 2.5})
    with pytest.raises(ValidationError, match="gives no mean to subtract"):
        NOISE_LAWS.choose({"name": "pareto", "alpha": 0.9, "symmetric": False})


@pytest.mark.parametrize("alpha", [1.2, 1.8, 2.0, 3.0])
def test_the_second_moment_of_clipped_pareto_noise(alpha: float) -> None:
    law = Pareto(alpha=alpha)
    squares = draws(law).abs().clamp(max=20.0).square()
    error = float(squares.std()) / math.sqrt(DRAWS)
    assert law.clipped_square(20.0) == pytest.approx(float(squares.mean()), abs=5 * error)
    assert law.clipped_square(1.0) == pytest.approx(1.0)
