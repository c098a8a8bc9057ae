"""Stochastic Lanczos quadrature: a matrix's spectrum from its products with random vectors.

``slq`` is the published scheme, ``adaptive_slq`` stops at a tolerance, ``exact_spectrum`` computes all eigenvalues of a
small matrix. Lanczos runs in block form (Golub and Underwood 1977): several probes in one Krylov space resolve a
spectrum with a fraction of the products that they need one by one; the published scheme is the case of one probe.

Sources: Ubaru, Chen and Saad 2017 (SIAM J. Matrix Anal. Appl. 38); for Hessians Ghorbani, Krishnan and Xiao 2019
(arXiv:1901.10159); with 100 steps, 10 probes and blocks of parameters Zhang et al. 2024 (arXiv:2402.16788).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..seeds import derive_seed
from .distances import js_distance
from .spectrum import RELATIVE, Smoothing, Spectrum, stack_probes

Product = Callable[[Tensor], Tensor]
"""From vectors ``[k, size]``, one a row, to their products with the matrix, in the same shape and type."""


class Lanczos:
    """Block Lanczos tridiagonalisation of a symmetric matrix.

    After m steps with k probes the Krylov space has at most m · k dimensions. ``quadrature`` gives the eigenvalues θ of
    the matrix restricted to it, and for each probe v the weights (v·y)² of the eigenvectors y: a Gauss quadrature,
    exact for every polynomial up to degree 2m − 1 (Golub and Meurant 2010). Exhausted directions are dropped.
    """

    def __init__(self, product: Product, probes: Tensor, steps: int, *, reorthogonalize: bool = True) -> None:
        """Begin with the probes; no product is computed yet.

        Args:
            product: the matrix.
            probes: ``[k, size]``, not zero; their type and device are those of the basis.
            steps: at most; the basis takes steps · k vectors.
            reorthogonalize: orthogonalize twice against the whole basis. Without, only the vectors of two steps are in
                memory; the density stays the same, but converged eigenvalues are repeated.
        """
        self._product = product
        self._breakdown = torch.finfo(probes.dtype).eps ** (2 / 3)
        self._scale = 0.0
        unit = probes / torch.linalg.vector_norm(probes, dim=1, keepdim=True)
        self._current, self._mixture = _orthonormal(unit, self._breakdown)
        self._previous = self._current[:0]
        self._diagonal: list[Tensor] = []
        self._coupling = [unit.new_zeros(0, len(self._current))]
        self._reorthogonalize = reorthogonalize
        rows = min(steps * len(unit), unit.shape[1]) if reorthogonalize else 0
        self._basis = unit.new_empty(rows, unit.shape[1])
        self._used = 0

    def step(self) -> bool:
        """Extend the space by one product per current direction; False once it is exhausted.

        Raises:
            FloatingPointError: a product is not finite.
        """
        image = self._product(self._current)
        diagonal = image @ self._current.T
        if not torch.isfinite(diagonal).all():
            raise FloatingPointError("a product with the matrix is NaN or infinite")
        image = image - diagonal @ self._current - self._coupling[-1].T @ self._previous
        if self._reorthogonalize:
            self._remember(self._current)
            known = self._basis[: self._used]
            for _ in range(2):
                image -= (image @ known.T) @ known
        self._scale = max(self._scale, float(diagonal.abs().max()))
        following, coupling = _orthonormal(image, self._breakdown * self._scale)
        self._diagonal.append((diagonal + diagonal.T) / 2)
        if len(following):
            self._scale = max(self._scale, float(coupling.abs().max()))
            self._coupling.append(coupling)
        self._previous, self._current = self._current, following
        return len(following) > 0

    def quadrature(self) -> tuple[Tensor, Tensor]:
        """Nodes ``[n]`` in ascending order and weights ``[k, n]``, in float64 on the CPU."""
        starts = [0]
        for diagonal in self._diagonal:
            starts.append(starts[-1] + len(diagonal))
        projected = torch.zeros(starts[-1], starts[-1], dtype=torch.float64)
        for i, diagonal in enumerate(self._diagonal):
            here = slice(starts[i], starts[i + 1])
            projected[here, here] = diagonal.cpu().double()
            if i:
                before = slice(starts[i - 1], starts[i])
                projected[before, here] = self._coupling[i].cpu().double()
                projected[here, before] = self._coupling[i].T.cpu().double()
        nodes, vectors = torch.linalg.eigh(projected)
        weights = (self._mixture.cpu().double() @ vectors[: self._mixture.shape[1]]) ** 2
        return nodes, weights / weights.sum(1, keepdim=True)

    def _remember(self, directions: Tensor) -> None:
        self._basis[self._used : self._used + len(directions)] = directions
        self._used += len(directions)


def _orthonormal(rows: Tensor, smallest: float) -> tuple[Tensor, Tensor]:
    """Orthonormal directions ``[r, size]`` and the mixture ``[k, r]`` with rows ≈ mixture @ directions.

    Directions with a singular value of at most ``smallest`` are dropped.
    """
    columns, triangle = torch.linalg.qr(rows.T)
    left, sizes, right = torch.linalg.svd(triangle, full_matrices=False)
    large = sizes > smallest
    return (columns @ left[:, large]).T, right.T[:, large] * sizes[large]


FEWEST_PROBES = 2
"""Without a second probe a spectrum has no error bar."""

FIRST_CHECK = 8
"""Steps before an adaptive measurement first checks for convergence."""

CHECK_GROWTH = 1.25
"""Ratio of the steps at one check to those at the check before."""

ENDS_TOLERANCE = 1e-3
"""Share of the range by which λ_min and λ_max may move between two checks: outliers are too few to matter in a
density."""


def slq(
    matvec: Callable[[Tensor], Tensor],
    size: int,
    *,
    steps: int = 100,
    probes: int = 10,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Spectrum:
    """The published scheme: one Lanczos run per probe, with a fixed number of steps, but reorthogonalised.

    Args:
        matvec: from ``v`` of shape ``[size]`` to the matrix times v.
        size: rows of the symmetric matrix.
        steps: of each run; a run stops early when its Krylov space is exhausted.
        probes: independent Gaussian vectors, each scaled to length 1.
        seed: of the probes.
        dtype: of the Lanczos vectors.

    Raises:
        ValueError: steps or probes are less than 1.

    Returns:
        Nodes and weights ``[probes, steps]``, narrower where every run stopped early.
    """
    if steps < 1 or probes < 1:
        raise ValueError(f"steps and probes must be at least 1, not {steps} and {probes}")
    product = one_by_one(matvec)
    vectors = (draw_probes(size, seed, [probe], dtype) for probe in range(probes))
    return stack_probes([probe_quadrature(product, vector, steps) for vector in vectors], size)


def probe_quadrature(
    product: Product, probe: Tensor, steps: int, *, reorthogonalize: bool = True
) -> tuple[Tensor, Tensor]:
    """Nodes and weights ``[nodes]`` of one probe ``[1, size]``; ``slq`` is these, stacked."""
    lanczos = Lanczos(product, probe, steps, reorthogonalize=reorthogonalize)
    for _ in range(steps):
        if not lanczos.step():
            break
    nodes, weights = lanczos.quadrature()
    return nodes, weights[0]


def adaptive_slq(
    product: Product,
    size: int,
    *,
    tolerance: float,
    steps: int = 100,
    probes: int = 10,
    seed: int = 0,
    smoothing: Smoothing = RELATIVE,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    reorthogonalize: bool = True,
) -> Spectrum:
    """A spectrum whose smoothed density is within ``tolerance`` of the true one, as far as the limits allow.

    All probes share one Krylov space, which grows until the last fifth of the steps changed the density by a
    Jensen–Shannon distance of at most the tolerance, and λ_min and λ_max by at most a thousandth of the range. The
    number of probes is known before, see ``probes_needed``.

    Args:
        product: the matrix, for several vectors at once.
        size: its rows.
        tolerance: a Jensen–Shannon distance, as ``js_distance`` gives it.
        steps: at most.
        probes: at most; at least two are used.
        seed: of the probes.
        smoothing: the width at which the density must be right. An absolute width much narrower than the spectrum needs
            all steps.
        dtype: of the steps · probes Lanczos vectors.
        device: of the Lanczos vectors.
        reorthogonalize: as in ``Lanczos``.

    Returns:
        Nodes and weights ``[probes, steps · probes]``; all rows of the nodes are equal.
    """
    count = probes_needed(size, tolerance, smoothing, probes)
    starts = draw_probes(size, seed, range(count), dtype, device)
    lanczos = Lanczos(product, starts, steps, reorthogonalize=reorthogonalize)
    before: Spectrum | None = None
    check = FIRST_CHECK
    for step in range(1, steps + 1):
        if not lanczos.step():
            return _shared_nodes(lanczos, size)
        if step == check:
            now = _shared_nodes(lanczos, size)
            if before is not None and _has_converged(before, now, smoothing, tolerance):
                return now
            before, check = now, math.ceil(check * CHECK_GROWTH)
    warnings.warn(f"after {steps} Lanczos steps the density still moves by more than {tolerance}", stacklevel=2)
    return _shared_nodes(lanczos, size)


def probes_needed(size: int, tolerance: float, smoothing: Smoothing, most: int) -> int:
    """The number of probes that bring the noise of the density to the tolerance: ``FEWEST_PROBES`` to ``most``.

    An eigenvalue has the weight χ²₁/size. Smoothed with a share s of its range, a spectrum has at most 1/(2√π s)
    independent bins, 28 at 1 %, and with P probes the Jensen–Shannon distance to the truth is at most
    √(bins / (4 ln 2 · size · P)). For an absolute width, whose share is not known before, 1 % is assumed.
    """
    share = smoothing.value if smoothing.relative else RELATIVE.value
    bins = 1 / (2 * math.sqrt(math.pi) * share)
    wanted = math.ceil(bins / (4 * math.log(2) * size * tolerance**2))
    return max(FEWEST_PROBES, min(wanted, most))


def draw_probes(
    size: int,
    seed: int,
    numbers: Sequence[int],
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Gaussian vectors ``[len(numbers), size]``; each depends on the seed and its number, not on the device."""
    generator = torch.Generator()
    rows = []
    for number in numbers:
        generator.manual_seed(derive_seed(seed, "probe", number))
        rows.append(torch.randn(size, generator=generator, dtype=torch.float64).to(dtype))
    return torch.stack(rows).to(device)


def one_by_one(matvec: Callable[[Tensor], Tensor]) -> Product:
    """A product with several vectors from one with a single vector."""
    return lambda vectors: torch.stack([matvec(vector) for vector in vectors])


def _has_converged(before: Spectrum, now: Spectrum, smoothing: Smoothing, tolerance: float) -> bool:
    reach = ENDS_TOLERANCE * (now.largest - now.smallest)
    ends = max(now.largest - before.largest, before.smallest - now.smallest)
    return ends <= reach and js_distance(before, now, sigma=smoothing) <= tolerance


def _shared_nodes(lanczos: Lanczos, size: int) -> Spectrum:
    nodes, weights = lanczos.quadrature()
    return Spectrum(nodes.expand_as(weights), weights, size)


ROWS_AT_ONCE = 32
"""Unit vectors in one call of the product."""


def dense_matrix(
    product: Product, size: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> Tensor:
    """The matrix ``[size, size]`` of a product, from ``size`` products, symmetrized as (A + Aᵀ)/2.

    Args:
        product: the matrix, for several vectors at once.
        size: its rows.
        dtype: of the vectors that ``product`` gets and of the result.
        device: of both.
    """
    units = torch.eye(size, dtype=dtype, device=device)
    matrix = torch.cat([product(rows) for rows in units.split(ROWS_AT_ONCE)])
    return (matrix + matrix.T) / 2


def exact_spectrum(product: Product, size: int, *, device: torch.device | str = "cpu") -> Spectrum:
    """All eigenvalues of the matrix, each with the weight 1/size; arguments as for ``dense_matrix``."""
    eigenvalues = torch.linalg.eigvalsh(dense_matrix(product, size, device=device)).cpu()
    return Spectrum(eigenvalues[None], torch.full_like(eigenvalues, 1 / size)[None], size)
