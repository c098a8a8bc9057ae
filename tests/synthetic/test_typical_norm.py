"""The median norm of noise vectors against laws where it is known."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from whyadam.data.noise_laws import AlphaStable, CoinFlip, Gaussian, NoiseLaw, Pareto, StudentT
from whyadam.errors import UserError
from whyadam.synthetic.trials import typical_norm


@pytest.mark.parametrize("coordinates", [1, 3, 1000, 1_000_000])
def test_gaussian_vectors_have_the_norm_of_the_chi_law(coordinates: int) -> None:
    assert typical_norm(Gaussian(), coordinates) == pytest.approx(stats.chi(coordinates).median(), rel=0.15)


@pytest.mark.parametrize("law", [AlphaStable(alpha=1.5), Pareto(alpha=1.2), StudentT(alpha=5)], ids=str)
def test_large_vectors_are_extrapolated_to_what_drawing_them_gives(law: NoiseLaw) -> None:
    """Forty times more coordinates than are drawn; catches a wrong power of the number of coordinates."""
    generator = torch.Generator().manual_seed(5)
    norms = torch.stack([torch.linalg.vector_norm(law.draw((200_000,), generator)) for _ in range(51)])
    assert typical_norm(law, 200_000) == pytest.approx(float(norms.median()), rel=0.15)


def test_a_law_without_variance_grows_faster_than_one_with() -> None:
    growth = typical_norm(AlphaStable(alpha=1.25), 10**8) / typical_norm(AlphaStable(alpha=1.25), 10**6)
    assert growth == pytest.approx(100 ** (1 / 1.25))
    assert typical_norm(Gaussian(), 10**8) == pytest.approx(1e4)


def test_noise_that_is_mostly_zero_has_no_scale() -> None:
    rare = CoinFlip(alpha=1.5, gamma=0.01)
    with pytest.raises(UserError, match="0 most of the time"):
        typical_norm(rare, 10)
    assert typical_norm(rare, 10**6) == pytest.approx(math.sqrt(1e6 * rare.moment(2)))
