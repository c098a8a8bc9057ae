"""Distances of two spectra against closed forms, scipy and their axioms; rows, means and matrices over all pairs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance
from whyadam.hessian import (
    PUBLISHED,
    RELATIVE,
    DistanceRow,
    Smoothing,
    Spectrum,
    density,
    distance_matrix,
    distance_rows,
    exact_spectrum,
    heterogeneity,
    js_distance,
    js_divergence,
    scale_free,
    slq,
    smoothing_grid,
    sym_kl,
    wasserstein1,
)
from whyadam.hessian.distances import js_divergence_of, smoothed, sym_kl_of


def points(values: list[float], weights: list[float] | None = None) -> Spectrum:
    nodes = torch.tensor([values], dtype=torch.float64)
    if weights is None:
        return Spectrum(nodes, torch.full_like(nodes, 1 / len(values)), len(values))
    return Spectrum(nodes, torch.tensor([weights], dtype=torch.float64) / sum(weights))


def random_spectrum(seed: int, probes: int = 3, nodes: int = 40) -> Spectrum:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(probes, nodes, generator=generator, dtype=torch.float64)
    values = torch.randn(probes, nodes, generator=generator, dtype=torch.float64)
    return Spectrum(values * (1 + seed), weights / weights.sum(1, keepdim=True), nodes)


ALL = [
    lambda a, b: js_distance(a, b, sigma=0.05),
    lambda a, b: js_distance(a, b, sigma=RELATIVE),
    lambda a, b: js_divergence(a, b, sigma=0.05),
    lambda a, b: sym_kl(a, b, sigma=0.05),
    wasserstein1,
]


@pytest.mark.parametrize("distance", ALL)
def test_distance_to_itself_is_zero_and_order_does_not_matter(distance: Any) -> None:
    """Sorted nodes treated as probabilities give a spectrum a distance to itself."""
    a, b = random_spectrum(0), random_spectrum(1)
    assert distance(a, a) == pytest.approx(0, abs=1e-7)
    assert distance(a, b) == pytest.approx(distance(b, a))
    assert distance(a, b) > 0.01


spectra = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0.01, 1)), min_size=1, max_size=8).map(
    lambda pairs: points([value for value, _ in pairs], [weight for _, weight in pairs])
)
smoothings = st.one_of(st.floats(1e-6, 1e3), st.floats(1e-4, 1).map(lambda share: Smoothing(share, relative=True)))


@settings(max_examples=60, deadline=None)
@given(a=spectra, b=spectra, sigma=smoothings)
def test_jensen_shannon_stays_in_its_bounds(a: Spectrum, b: Spectrum, sigma: float | Smoothing) -> None:
    """Widths far above and far below the range, equal nodes, far apart nodes."""
    assert 0 <= js_distance(a, b, sigma=sigma) <= 1


@settings(max_examples=60, deadline=None)
@given(a=spectra, b=spectra, c=spectra)
def test_triangle_inequality(a: Spectrum, b: Spectrum, c: Spectrum) -> None:
    for distance in (wasserstein1, lambda x, y: js_distance(x, y, sigma=5.0)):
        assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-6


def test_disjoint_spectra_are_one_bit_apart() -> None:
    assert js_distance(points([0.0]), points([1.0]), sigma=0.01) == pytest.approx(1)


def test_two_points_with_shared_mass_have_the_closed_form() -> None:
    """P = (1−s, s) and q = (s, 1−s), far apart: the divergence of two coins."""
    s = 0.2
    entropy = -(s * math.log2(s) + (1 - s) * math.log2(1 - s))
    a, b = points([0.0, 1.0], [1 - s, s]), points([0.0, 1.0], [s, 1 - s])
    assert js_divergence(a, b, sigma=0.01) == pytest.approx(1 - entropy)
    assert js_distance(a, b, sigma=0.01) == pytest.approx(math.sqrt(1 - entropy))
    assert sym_kl(a, b, sigma=0.01) == pytest.approx((1 - 2 * s) * math.log2((1 - s) / s), rel=1e-6)


def test_near_gaussians_have_the_leading_order() -> None:
    """Two Gaussians of width σ, δ apart: the divergence is δ²/(8σ² ln 2) bits to leading order."""
    sigma, delta = 0.3, 0.003
    expected = delta**2 / (8 * sigma**2 * math.log(2))
    assert js_divergence(points([1.0]), points([1.0 + delta]), sigma=sigma) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("sigma", [0.02, 0.5, RELATIVE])
def test_jensen_shannon_equals_scipy_on_a_fine_grid(sigma: float | Smoothing) -> None:
    a, b = random_spectrum(0), random_spectrum(1)
    width = sigma if isinstance(sigma, float) else sigma.width(a, b)
    grid = smoothing_grid(a, b, sigma=width, points=40_000)
    expected = jensenshannon(density(a, grid, sigma=width).numpy(), density(b, grid, sigma=width).numpy(), base=2)
    assert js_distance(a, b, sigma=sigma) == pytest.approx(expected, abs=1e-5)
    assert js_distance(a, b, sigma=sigma, grid=grid) == pytest.approx(expected, abs=1e-9)


def test_cells_near_nodes_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spectra much wider than σ take another path, which must give the same."""
    a, b = random_spectrum(0), random_spectrum(1)
    dense = js_divergence(a, b, sigma=PUBLISHED)
    monkeypatch.setattr("whyadam.hessian.distances.DENSE_CELLS", 1)
    assert js_divergence(a, b, sigma=PUBLISHED) == pytest.approx(dense, rel=1e-9)


def test_smoothed_masses_sum_to_one_and_keep_the_weights() -> None:
    p, q = smoothed(points([0.0, 5.0], [1, 3]), points([2.0]), sigma=0.1)
    assert [float(p.sum()), float(q.sum())] == pytest.approx([1, 1])
    assert float(p[: len(p) // 4].sum()) == pytest.approx(0.25)


def test_floor_of_the_symmetric_divergence_is_what_disjoint_spectra_show() -> None:
    p, q = torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 1.0]).double()
    assert sym_kl_of(p, q, floor=1e-6) == pytest.approx(math.log2(1e6), rel=1e-5)
    assert js_divergence_of(p, q) == 1


def test_wasserstein_equals_scipy() -> None:
    a, b = random_spectrum(0), random_spectrum(2)
    (x, v), (y, w) = (tuple(column.numpy() for column in spectrum.pooled()) for spectrum in (a, b))
    assert wasserstein1(a, b) == pytest.approx(wasserstein_distance(x, y, v, w))


def test_wasserstein_of_shifted_spectra_is_the_shift() -> None:
    a = random_spectrum(3)
    assert wasserstein1(a, Spectrum(a.nodes + 0.7, a.weights)) == pytest.approx(0.7)


@pytest.mark.parametrize("by", ["largest", "tenth"])
def test_scale_free_spectra_forget_the_scale(by: str) -> None:
    a = random_spectrum(0)
    torch.testing.assert_close(scale_free(a.scaled(1e-4), by).nodes, scale_free(a, by).nodes)


def test_tenth_eigenvalue_is_of_one_probe_and_without_padding() -> None:
    """Pooled, ten probes all hold λ₁: the tenth largest would be the largest."""
    values = torch.arange(1.0, 13.0)
    nodes = torch.cat([values, values[-1:]]).expand(4, 13)
    weights = torch.cat([torch.full((12,), 1 / 12), torch.zeros(1)]).expand(4, 13)
    assert scale_free(Spectrum(nodes, weights), "tenth").largest == pytest.approx(12 / 3)


@pytest.mark.parametrize(("values", "by"), [([0.0], "largest"), ([1.0, 2.0], "tenth"), ([-1.0] * 12, "tenth")])
def test_missing_scale_is_refused(values: list[float], by: str) -> None:
    with pytest.raises(ValueError, match=f"{by} eigenvalue is not positive"):
        scale_free(points(values), by)


def test_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="not by 'mean'"):
        scale_free(points([1.0]), "mean")


EIGENVALUES = torch.tensor([-2.0, 0.0, 1.0, 1.0, 5.0], dtype=torch.float64)


def exactly(eigenvalues: torch.Tensor) -> Spectrum:
    return exact_spectrum(lambda vectors: vectors * eigenvalues, len(eigenvalues))


def spectra_of_three() -> dict[str, Spectrum]:
    bulk = torch.linspace(0, 1, 300, dtype=torch.float64)
    matrices = {"narrow": 0.1 * bulk, "wide": bulk, "shifted": bulk + 3}
    return {name: slq(lambda v, d=diagonal: d * v, 300, steps=30, probes=6) for name, diagonal in matrices.items()}


def js_row(rows: list[DistanceRow], block_a: str, block_b: str) -> DistanceRow:
    wanted = (block_a, block_b, "js_distance", "1%")
    (row,) = (row for row in rows if (row.block_a, row.block_b, row.measure, row.sigma) == wanted)
    return row


def test_rows_hold_every_pair_once_with_its_noise_floor() -> None:
    spectra = spectra_of_three()
    rows = list(distance_rows(spectra))
    keys = {(row.measure, row.sigma) for row in rows}
    information = {"js_distance", "js_divergence", "sym_kl"}
    assert keys == (
        {(measure, str(sigma)) for measure in information for sigma in (PUBLISHED, RELATIVE)}
        | {(f"scale_free_{measure}", "1%") for measure in information}
        | {("wasserstein1", ""), ("scale_free_wasserstein1", "")}
    )
    assert len(rows) == 3 * len(keys)
    (row,) = (
        row
        for row in rows
        if (row.block_a, row.block_b, row.measure, row.sigma) == ("narrow", "wide", "js_distance", "1%")
    )
    width = RELATIVE.width(spectra["narrow"], spectra["wide"])
    assert row.value == pytest.approx(js_distance(spectra["narrow"], spectra["wide"], sigma=width))
    floors = [js_distance(*(spectra[name].halves() or ()), sigma=width) for name in ("narrow", "wide")]
    assert row.noise_floor == pytest.approx(max(floors))
    assert row.value > 3 * row.noise_floor


def test_scale_free_rows_see_no_difference_of_scale() -> None:
    """A tenth of the spectrum is far from it raw, and as near as noise allows once the scale is gone."""
    rows = {
        (row.measure, row.sigma): row
        for row in distance_rows(spectra_of_three())
        if (row.block_a, row.block_b) == ("narrow", "wide")
    }
    assert rows["js_distance", "1%"].value > 0.5
    assert rows["scale_free_js_distance", "1%"].value < rows["scale_free_js_distance", "1%"].noise_floor
    assert rows["wasserstein1", ""].value == pytest.approx(0.45, rel=0.1)


def test_noise_floor_is_zero_if_exact_and_unknown_of_a_single_probe() -> None:
    exact, single = exactly(EIGENVALUES), slq(lambda v: EIGENVALUES * v, 5, steps=5, probes=1)
    rows = list(distance_rows({"a": exact, "b": exactly(2 * EIGENVALUES)}))
    assert {row.noise_floor for row in rows} == {0.0}
    assert all(math.isnan(row.noise_floor) for row in distance_rows({"a": exact, "b": single}))
    assert all(math.isnan(row.noise_floor) for row in distance_rows({"a": single, "b": exact}))


def test_block_that_is_zero_has_no_scale_free_distance() -> None:
    rows = list(distance_rows({"a": exactly(EIGENVALUES), "zero": exactly(torch.zeros(3).double())}))
    assert rows
    assert not [row for row in rows if row.measure.startswith("scale_free")]


def test_heterogeneity_is_the_mean_over_pairs() -> None:
    """A mean over the whole matrix would count the diagonal's zeros."""
    spectra = spectra_of_three()
    rows = list(distance_rows(spectra))
    found = heterogeneity(rows)["wasserstein1", ""]
    pairs = [("narrow", "wide"), ("narrow", "shifted"), ("wide", "shifted")]
    assert found.value == pytest.approx(sum(wasserstein1(spectra[a], spectra[b]) for a, b in pairs) / 3)
    assert found.noise_floor == pytest.approx(sum(row.noise_floor for row in rows if row.measure == "wasserstein1") / 3)


def test_matrix_is_symmetric_in_the_order_asked_for() -> None:
    rows = list(distance_rows(spectra_of_three()))
    names = ["shifted", "narrow", "wide"]
    values, floors = distance_matrix(rows, names, "js_distance", "1%")
    assert torch.equal(values, values.T)
    assert values.diagonal().tolist() == [0, 0, 0]
    (row,) = (
        r for r in rows if (r.block_a, r.block_b, r.measure, r.sigma) == ("narrow", "shifted", "js_distance", "1%")
    )
    assert (float(values[0, 1]), float(floors[1, 0])) == (row.value, row.noise_floor)
    assert distance_matrix(rows, [*names, "other"], "js_distance", "1%")[0].isnan().sum() == 6
