"""Lanczos tridiagonalisation of a symmetric matrix that is known only by its products with vectors.

The block form is used throughout (Golub and Underwood 1977): it starts from one probe or from several at once. Several
probes in one Krylov space resolve a spectrum with a fraction of the products that the same probes need one by one. The
published scheme is the special case of one probe.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""From vectors ``[k, size]``, one a row, to their products with the matrix, in the same shape and type."""


class Lanczos:
    """A Krylov space that grows step by step.

    After m steps with k probes the space has at most m · k dimensions. ``quadrature`` gives the eigenvalues θ of the
    matrix restricted to it, and for each probe v the weights (v·y)² of the eigenvectors y: a Gauss quadrature, which
    is exact for every polynomial up to degree 2m − 1 (Golub and Meurant 2010).

    Where nothing is left to explore, a direction is dropped; ``step`` says so when the last one is.
    """

    def __init__(self, product: Product, probes: Tensor, steps: int, *, reorthogonalize: bool = True) -> None:
        """Begin with the probes; no product is computed yet.

        Args:
            product: the matrix.
            probes: ``[k, size]``, of any length other than zero. Their type and device are those of the basis.
            steps: the most steps there will be; the basis takes steps · k vectors.
            reorthogonalize: keep the basis orthogonal to rounding, twice over. Without it only two steps' vectors are
                kept; the density stays the same, but converged eigenvalues come several times.
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
        """Enlarge the space by one product of each current direction; False once the space is exhausted.

        Raises:
            FloatingPointError: a product is not finite.
        """
        image = self._product(self._current)
        diagonal = image @ self._current.T
        if not torch.isfinite(diagonal).all():
            raise FloatingPointError("a product with the matrix is no finite number")
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
        """Nodes ``[n]`` in rising order and weights ``[k, n]``, in float64 on the CPU."""
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

    What has a singular value of at most ``smallest`` is left out.
    """
    columns, triangle = torch.linalg.qr(rows.T)
    left, sizes, right = torch.linalg.svd(triangle, full_matrices=False)
    kept = sizes > smallest
    return (columns @ left[:, kept]).T, right.T[:, kept] * sizes[kept]
