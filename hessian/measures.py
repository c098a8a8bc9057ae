"""Measures of a block's curvature (trace, norms, effective rank) and of the whole model (sharpness, heterogeneity)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .operators import HessianOperator
from .preconditioning import Preconditioned
from .slq import draw_probes
from .spectrum import Spectrum


@dataclass(frozen=True)
class BlockMeasures:
    """What a spectrum says about its matrix H with eigenvalues λ.

    Attributes:
        size: rows of H.
        largest: λ_max.
        smallest: λ_min.
        trace: Σ λ.
        trace_error: standard error of the trace over probes; 0 if exact, NaN with a single probe.
        frobenius: √(Σ λ²).
        effective_rank: (Σ |λ|)² / Σ λ², between 1 and the number of eigenvalues other than zero; 0 of a zero matrix.
        condition: largest |λ| over the median |λ|: a proxy for the condition number, since the smallest |λ| cannot be
            estimated.
    """

    size: int
    largest: float
    smallest: float
    trace: float
    trace_error: float
    frobenius: float
    effective_rank: float
    condition: float


def block_measures(spectrum: Spectrum) -> BlockMeasures:
    """The measures of a block from its spectrum.

    Raises:
        ValueError: the size of the matrix is unknown.
    """
    if spectrum.size is None:
        raise ValueError("a spectrum without the size of its matrix has no trace")
    size = spectrum.size
    traces = size * spectrum.moments(1)
    squares = size * float(spectrum.moments(2).mean())
    absolute = size * float((spectrum.weights * spectrum.nodes.abs()).sum(1).mean())
    return BlockMeasures(
        size=size,
        largest=spectrum.largest,
        smallest=spectrum.smallest,
        trace=float(traces.mean()),
        trace_error=_standard_error(traces, spectrum.exact),
        frobenius=math.sqrt(squares),
        effective_rank=absolute**2 / squares if squares > 0 else 0.0,
        condition=_condition(spectrum),
    )


def outside_blocks(full: Spectrum, blocks: Sequence[Spectrum]) -> float:
    """The share of the curvature outside the diagonal blocks, 1 − Σ_l ‖H_ll‖²_F / ‖H‖²_F.

    Estimation errors can make it slightly negative where the truth is near zero.

    Args:
        full: spectrum of H.
        blocks: spectra of its diagonal blocks, which must cover all of its rows.

    Raises:
        ValueError: the sizes do not add up, or H is zero.
    """
    if full.size is None or full.size != sum(block.size or 0 for block in blocks):
        raise ValueError(
            "the blocks do not have all parameters of the full Hessian together, as those of hessian.blocks=default do"
        )
    inside = sum((block.size or 0) * float(block.moments(2).mean()) for block in blocks)
    everything = full.size * float(full.moments(2).mean())
    if everything == 0:
        raise ValueError("a Hessian that is zero has no curvature to share out")
    return 1 - inside / everything


def directional_sharpness(operator: HessianOperator, direction: Tensor) -> float:
    """uᵀHu / ‖u‖², the curvature that a step along u meets.

    Args:
        operator: H.
        direction: u, ``[size]``: the gradient for SGD, ``preconditioning.adam_direction`` for Adam.

    Raises:
        ValueError: the direction is zero.

    Source: Pan and Li 2023, arXiv:2306.00204.
    """
    u = direction.double()
    squared = float(u @ u)
    if squared == 0:
        raise ValueError("the step along which it is measured is zero")
    return float(u @ operator.matvec(u)) / squared


def gradient_heterogeneity(gradients: Mapping[str, Tensor]) -> float:
    """How unequal the blocks' gradients are: the standard deviation of ln(‖g_l‖ / √size_l) over the blocks l.

    0 if all blocks have the same root mean square; 1 if they typically differ e-fold. Blocks with a zero gradient are
    left out.

    Args:
        gradients: one tensor per block.

    Raises:
        ValueError: fewer than two blocks have a gradient.
    """
    sizes = [float(g.double().square().mean().sqrt()) for g in gradients.values()]
    logarithms = torch.tensor([math.log(size) for size in sizes if size > 0], dtype=torch.float64)
    if len(logarithms) < 2:
        raise ValueError("fewer than two blocks have a gradient other than zero")
    return float(logarithms.std())


def one_one_norm(operator: HessianOperator | Preconditioned, *, probes: int = 50, seed: int = 0) -> float:
    """Σ_ij |H_ij|, estimated from products with vectors of Cauchy numbers.

    (Hv)_i is then Cauchy with the scale Σ_j |H_ij|, which is the median of its absolute value.

    Args:
        operator: H.
        probes: number of products; the relative error is about 1.6/√probes if one row dominates, less otherwise.
        seed: of the vectors.

    Source: Xie, Mohamadi and Li 2024, arXiv:2410.08198.
    """
    normal = draw_probes(operator.size, seed, range(2 * probes), device=operator.device)
    products = operator.matmat(normal[:probes] / normal[probes:])
    return float(products.abs().quantile(0.5, dim=0).sum())


def _standard_error(estimates: Tensor, exact: bool) -> float:
    if exact:
        return 0.0
    return float(estimates.std() / math.sqrt(len(estimates))) if len(estimates) > 1 else math.nan


def _condition(spectrum: Spectrum) -> float:
    nodes, weights = spectrum.pooled()
    sizes, order = nodes.abs().sort()
    median = float(sizes[int(torch.searchsorted(weights[order].cumsum(0), 0.5).clamp(max=len(sizes) - 1))])
    return float(sizes[-1]) / median if median > 0 else math.inf
