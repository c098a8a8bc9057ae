"""Lanczos and its quadrature on matrices whose spectrum is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from whyadam.hessian import RELATIVE, Smoothing, Spectrum, adaptive_slq, js_distance, slq
from whyadam.hessian.slq import Lanczos, Product, draw_probes, probes_needed

Symmetric = Callable[[Tensor], Tensor]


def times(matrix: Tensor) -> Product:
    return lambda vectors: vectors @ matrix


def exactly(eigenvalues: Tensor) -> Spectrum:
    size = len(eigenvalues)
    return Spectrum(eigenvalues[None].double(), torch.full((1, size), 1 / size, dtype=torch.float64), size)


def bulk_with_outliers(size: int = 600) -> Tensor:
    """A semicircle-like bulk in [-1, 1] and a few eigenvalues far out."""
    bulk = torch.cos(torch.linspace(0, torch.pi, size, dtype=torch.float64))
    bulk[:4] = torch.tensor([3.0, 4.0, 6.0, 8.0])
    return bulk


def test_diagonal_matrix_is_resolved_exactly() -> None:
    """With as many steps as eigenvalues the nodes are the eigenvalues and the weights the squares of the probe."""
    eigenvalues = torch.tensor([-3.0, -1.0, 0.5, 2.0, 7.0], dtype=torch.float64)
    spectrum = slq(lambda v: eigenvalues * v, 5, steps=5, probes=3, seed=4)
    probes = draw_probes(5, 4, range(3))
    torch.testing.assert_close(spectrum.nodes, eigenvalues.expand(3, 5))
    torch.testing.assert_close(spectrum.weights, probes**2 / (probes**2).sum(1, keepdim=True))


def test_low_rank_matrix_stops_clean(symmetric: Symmetric) -> None:
    """Dividing by a coupling of 1e-16 instead of stopping fills the rest of the nodes with anything."""
    matrix = symmetric(torch.tensor([4.0, -2.0, 1.0] + [0.0] * 57))
    spectrum = slq(lambda v: matrix @ v, 60, steps=20, probes=6)
    assert spectrum.nodes.shape == (6, 4)
    torch.testing.assert_close(spectrum.nodes, torch.tensor([-2.0, 0.0, 1.0, 4.0]).double().expand(6, 4))


@pytest.mark.parametrize("eigenvalue", [0.0, 2.5])
def test_multiple_of_the_identity_has_one_node(eigenvalue: float) -> None:
    spectrum = slq(lambda v: eigenvalue * v, 30, steps=10, probes=2)
    torch.testing.assert_close(spectrum.nodes, torch.full((2, 1), eigenvalue).double())
    assert spectrum.weights.tolist() == [[1.0], [1.0]]


def test_shared_space_stops_clean_when_directions_run_out_one_by_one(symmetric: Symmetric) -> None:
    """Five probes, rank seven: the second step finds two new directions, the third none."""
    matrix = symmetric(torch.cat([torch.arange(1.0, 8.0), torch.zeros(33)]))
    lanczos = Lanczos(times(matrix), draw_probes(40, 0, range(5)), 10)
    assert [lanczos.step() for _ in range(3)] == [True, True, False]
    nodes, weights = lanczos.quadrature()
    expected = torch.cat([torch.zeros(5), torch.arange(1.0, 8.0)]).double()
    torch.testing.assert_close(nodes, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(weights.sum(1), torch.ones(5).double())


@pytest.mark.parametrize("probes", [1, 3, 20])
def test_probes_that_exceed_or_fill_the_space_give_all_eigenvalues(symmetric: Symmetric, probes: int) -> None:
    eigenvalues = torch.linspace(-1, 2, 12, dtype=torch.float64)
    lanczos = Lanczos(times(symmetric(eigenvalues)), draw_probes(12, 1, range(probes)), 12)
    while lanczos.step():
        pass
    torch.testing.assert_close(lanczos.quadrature()[0], eigenvalues)


@pytest.mark.parametrize("probes", [1, 4])
@pytest.mark.parametrize("steps", [1, 3, 6])
def test_quadrature_has_the_moments_of_the_matrix(symmetric: Symmetric, probes: int, steps: int) -> None:
    """Σ w λ^k = vᵀH^k v up to k = 2·steps − 1; every eigenvector's entries squared as weights would break it."""
    matrix = symmetric(bulk_with_outliers(80))
    vectors = draw_probes(80, 2, range(probes))
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    lanczos = Lanczos(times(matrix), vectors, steps)
    for _ in range(steps):
        lanczos.step()
    nodes, weights = lanczos.quadrature()
    torch.testing.assert_close(weights.sum(1), torch.ones(probes).double())
    for power in range(2 * steps):
        expected = (unit @ torch.linalg.matrix_power(matrix, power) * unit).sum(1)
        torch.testing.assert_close(weights @ nodes**power, expected)


def test_reorthogonalisation_leaves_one_copy_of_the_largest_eigenvalue(symmetric: Symmetric) -> None:
    """Without it, converged eigenvalues come back as ghosts; the density hardly notices."""
    eigenvalues = torch.cat([torch.linspace(0, 1, 199), torch.tensor([100.0])]).double()
    probes = draw_probes(200, 0, [0])
    copies, spectra = [], []
    for reorthogonalize in (True, False):
        lanczos = Lanczos(times(symmetric(eigenvalues)), probes, 60, reorthogonalize=reorthogonalize)
        for _ in range(60):
            lanczos.step()
        nodes, weights = lanczos.quadrature()
        copies.append(int((nodes > 99).sum()))
        spectra.append(Spectrum(nodes[None], weights))
    assert copies[0] == 1
    assert copies[1] > 1
    assert js_distance(*spectra, sigma=RELATIVE) < 0.02


def test_spectrum_depends_on_the_seed_alone(symmetric: Symmetric) -> None:
    """PyTorch's own random numbers must neither matter nor be used up; more probes leave the first as they were."""
    matrix = symmetric(bulk_with_outliers(50))

    def measure(seed: int, probes: int = 3) -> Spectrum:
        return slq(lambda v: matrix @ v, 50, steps=8, probes=probes, seed=seed)

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, other = measure(7), measure(8)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(measure(7).weights, first.weights)
    assert torch.equal(measure(7, probes=5).nodes[:3], first.nodes)
    assert not torch.equal(other.nodes, first.nodes)


def test_single_precision_vectors_are_good_enough(symmetric: Symmetric) -> None:
    matrix = symmetric(bulk_with_outliers(200))
    double, single = (
        slq(lambda v: matrix.to(v.dtype) @ v, 200, steps=30, probes=2, dtype=dtype)
        for dtype in (torch.float64, torch.float32)
    )
    assert single.largest == pytest.approx(double.largest, rel=1e-5)
    assert js_distance(single, double, sigma=RELATIVE) < 1e-3


@pytest.mark.parametrize("tolerance", [0.03, 0.06])
def test_adaptive_measurement_keeps_its_tolerance(symmetric: Symmetric, tolerance: float) -> None:
    """Too few probes, or a stop before the density stands still, would miss it."""
    eigenvalues = bulk_with_outliers()
    products = 0

    def product(vectors: Tensor) -> Tensor:
        nonlocal products
        products += len(vectors)
        return vectors @ matrix

    matrix = symmetric(eigenvalues)
    errors = []
    for seed in range(3):
        spectrum = adaptive_slq(product, 600, tolerance=tolerance, probes=30, seed=seed)
        errors.append(js_distance(spectrum, exactly(eigenvalues), sigma=RELATIVE))
    assert sum(errors) / 3 < tolerance
    assert products < 3 * 600
    assert spectrum.probes == probes_needed(600, tolerance, RELATIVE, 30)


def test_shared_space_needs_a_fraction_of_the_products(symmetric: Symmetric) -> None:
    """What makes the adaptive measurement fast: 200 products shared against 800 of separate probes."""
    eigenvalues = bulk_with_outliers(1000)
    matrix = symmetric(eigenvalues)
    probes = draw_probes(1000, 0, range(10))
    lanczos = Lanczos(times(matrix), probes, 20)
    for _ in range(20):
        lanczos.step()
    nodes, weights = lanczos.quadrature()
    shared = js_distance(Spectrum(nodes.expand_as(weights), weights), exactly(eigenvalues), sigma=RELATIVE)
    separate = js_distance(slq(lambda v: matrix @ v, 1000, steps=80), exactly(eigenvalues), sigma=RELATIVE)
    assert shared < 1.1 * separate


def test_adaptive_measurement_stops_at_its_limits(symmetric: Symmetric) -> None:
    with pytest.warns(UserWarning, match="still moves by more than 1e-09"):
        spectrum = adaptive_slq(times(symmetric(bulk_with_outliers())), 600, tolerance=1e-9, steps=9, probes=3)
    assert spectrum.nodes.shape == (3, 27)


def test_adaptive_measurement_waits_for_the_ends(symmetric: Symmetric) -> None:
    """A density under a wide smoothing stands still long before λ_max does."""
    eigenvalues = torch.cat([torch.linspace(0, 1, 500), torch.tensor([1.05, 1.10, 1.15])]).double()
    wide = Smoothing(0.3, relative=True)
    spectrum = adaptive_slq(times(symmetric(eigenvalues)), 503, tolerance=0.2, probes=2, smoothing=wide)
    assert (spectrum.smallest, spectrum.largest) == pytest.approx((0, 1.15), abs=0.003)


def test_noise_of_a_probe_is_as_predicted() -> None:
    """The number of probes comes from a formula; here is the noise that it speaks of, on a flat spectrum."""
    size, generator = 4000, torch.Generator().manual_seed(0)
    eigenvalues = torch.linspace(0, 1, size, dtype=torch.float64)
    errors = []
    for _ in range(5):
        weights = torch.randn(4, size, generator=generator, dtype=torch.float64) ** 2
        probed = Spectrum(eigenvalues.expand(4, size), weights / weights.sum(1, keepdim=True))
        errors.append(js_distance(probed, exactly(eigenvalues), sigma=RELATIVE))
    error = sum(errors) / 5
    assert probes_needed(size, 1.15 * error, RELATIVE, 100) <= 4 <= probes_needed(size, 0.85 * error, RELATIVE, 100)


def test_finer_smoothing_needs_more_probes() -> None:
    fine = Smoothing(0.001, relative=True)
    assert probes_needed(10_000, 0.02, fine, 1000) == pytest.approx(
        10 * probes_needed(10_000, 0.02, RELATIVE, 1000), abs=10
    )


@pytest.mark.parametrize("limits", [{"steps": 0}, {"probes": 0}])
def test_nothing_to_do_is_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        slq(lambda v: v, 4, **limits)


def test_infinite_product_is_refused() -> None:
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        slq(lambda v: v / 0, 4, steps=2, probes=1)
