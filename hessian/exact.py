"""Small matrices, all of their eigenvalues."""

from __future__ import annotations

import torch
from torch import Tensor

from .lanczos import Product
from .spectrum import Spectrum

ROWS_AT_ONCE = 32
"""Unit vectors in one call of the product."""


def dense_matrix(
    product: Product, size: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> Tensor:
    """The symmetric matrix ``[size, size]`` behind a product, from ``size`` products; rounding is made symmetric.

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
