"""Spectra as quadratures, and their smoothed densities."""

from __future__ import annotations

import math

import pytest
import torch
from whyadam.hessian import PUBLISHED, RELATIVE, Smoothing, Spectrum, density, smoothing_grid
from whyadam.hessian.spectrum import stack_probes

TWO = Spectrum(torch.tensor([[0.0, 2.0]]).double(), torch.tensor([[0.25, 0.75]]).double(), 4)


def test_density_is_a_sum_of_gaussians() -> None:
    grid = torch.tensor([0.0, 1.0, 2.5])
    sigma = 0.5
    expected = [
        sum(
            w * math.exp(-((t - m) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
            for m, w in ((0, 0.25), (2, 0.75))
        )
        for t in grid.tolist()
    ]
    assert density(TWO, grid, sigma=sigma).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("sigma", [0.1, PUBLISHED, RELATIVE])
def test_density_integrates_to_one(sigma: float | Smoothing) -> None:
    grid = smoothing_grid(TWO, sigma=sigma, points=20_000)
    assert float(torch.trapezoid(density(TWO, grid, sigma=sigma), grid)) == pytest.approx(1, abs=1e-6)


def test_density_is_the_mean_over_probes() -> None:
    """Probes weighted by their number of nodes would move the density."""
    rows = [
        (torch.tensor([0.0]).double(), torch.tensor([1.0]).double()),
        (torch.tensor([1.0, 2.0]).double(), torch.tensor([0.5, 0.5]).double()),
    ]
    both = stack_probes(rows, 3)
    grid = torch.linspace(-1, 3, 50)
    single = [density(stack_probes([row], 3), grid, sigma=0.2) for row in rows]
    torch.testing.assert_close(density(both, grid, sigma=0.2), sum(single) / 2)


def test_chunks_of_the_grid_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = torch.linspace(-1, 3, 101)
    whole = density(TWO, grid, sigma=0.3)
    monkeypatch.setattr("whyadam.hessian.spectrum.CHUNK", 7)
    torch.testing.assert_close(density(TWO, grid, sigma=0.3), whole)


def test_relative_width_follows_the_range_of_all_spectra() -> None:
    assert RELATIVE.width(TWO) == pytest.approx(0.02)
    assert RELATIVE.width(TWO, TWO.scaled(-3)) == pytest.approx(0.08)
    assert PUBLISHED.width(TWO) == pytest.approx(0.00316228, rel=1e-5)
    assert [str(PUBLISHED), str(RELATIVE), str(Smoothing(0.002, relative=True))] == ["0.00316228", "1%", "0.2%"]


@pytest.mark.parametrize("value", [0.0, 5.0, -5.0])
def test_relative_width_of_a_single_value_is_positive(value: float) -> None:
    assert RELATIVE.width(Spectrum(torch.full((1, 1), value), torch.ones(1, 1))) > 0


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_width_must_be_positive(value: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Smoothing(value)


def test_short_rows_are_padded_without_weight_and_without_new_nodes() -> None:
    """A padding of zeros would be a node of its own: the smallest of a positive matrix."""
    spectrum = stack_probes(
        [(torch.tensor([3.0]), torch.tensor([1.0])), (torch.tensor([1.0, 4.0]), torch.tensor([0.5, 0.5]))], 9
    )
    assert spectrum.nodes.tolist() == [[3.0, 3.0], [1.0, 4.0]]
    assert spectrum.weights.tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert (spectrum.smallest, spectrum.largest) == (1.0, 4.0)


def test_moments_are_estimates_of_the_trace() -> None:
    assert TWO.moments(1).tolist() == [1.5]
    assert TWO.moments(2).tolist() == [3.0]


def test_halves_share_no_probe() -> None:
    nodes = torch.arange(10.0).reshape(5, 2)
    even, odd = Spectrum(nodes, torch.full((5, 2), 0.5), 7).halves() or pytest.fail("five probes have halves")
    assert even.nodes.tolist() == nodes[[0, 2, 4]].tolist()
    assert odd.nodes.tolist() == nodes[[1, 3]].tolist()
    assert TWO.halves() is None


def test_exact_is_one_row_of_all_eigenvalues() -> None:
    nodes, equal = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.5]])
    assert Spectrum(nodes, equal, 2).exact
    assert not Spectrum(nodes, equal, 3).exact
    assert not Spectrum(nodes, torch.tensor([[0.4, 0.6]]), 2).exact
    assert not Spectrum(nodes.repeat(2, 1), equal.repeat(2, 1), 2).exact


@pytest.mark.parametrize(
    ("nodes", "weights", "fault"),
    [
        ([[1.0, 2.0]], [[0.5]], "shape"),
        ([1.0, 2.0], [0.5, 0.5], "shape"),
        ([[]], [[]], "shape"),
        ([[1.0, math.nan]], [[0.5, 0.5]], "finite"),
        ([[1.0, 2.0]], [[0.5, 0.6]], "sum to 1"),
        ([[1.0, 2.0]], [[1.5, -0.5]], "negative"),
    ],
)
def test_what_is_no_spectrum_is_refused(nodes: list[float], weights: list[float], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Spectrum(torch.tensor(nodes), torch.tensor(weights))
