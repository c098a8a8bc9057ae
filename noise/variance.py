"""The variance of gradient noise: how fast its estimate settles, and how it compares with the gradient itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..seeds import derive_seed
from .statistics import Array


def running_variance(norms: ArrayLike, *, orders: int = 10, seed: int = 0) -> Array:
    """Variance estimated from the first n noise samples, V̂(n) = (1/n) Σ_{i≤n} ‖gᵢ − ∇f‖², for every n.

    It settles if the noise has a finite variance and keeps jumping if not. Draw several orders: in one, a jump comes
    early or late by chance.

    Args:
        norms: ``[samples]`` noise norms ‖gᵢ − ∇f‖.
        orders: number of random orders.
        seed: chooses the orders.

    Returns:
        ``[orders, samples]``; the last column is the same for all orders.

    Raises:
        ValueError: ``norms`` is not a row of finite, non-negative numbers, or ``orders`` is below 1.
    """
    if orders < 1:
        raise ValueError(f"orders: {orders} is too few, at least 1 is needed")
    squares = _checked_norms(norms) ** 2
    generator = np.random.default_rng(derive_seed(seed, "running_variance"))
    shuffled = generator.permuted(np.tile(squares, (orders, 1)), axis=1)
    return shuffled.cumsum(axis=1) / np.arange(1, len(squares) + 1)


@dataclass(frozen=True)
class NoiseScale:
    """The gradient noise scale and its two parts.

    Attributes:
        trace: tr Σ, the summed variance of the coordinates of one example's gradient.
        squared_gradient: ‖∇f‖²; an unbiased estimate can be negative.
        scale: tr Σ/‖∇f‖² in examples: batches far below it are mostly noise. Infinite if the gradient cannot be told
            from zero.
    """

    trace: float
    squared_gradient: float
    scale: float


def gradient_noise_scale(
    norms: ArrayLike,
    reference_norm: float,
    *,
    batch_size: int,
    reference_examples: int,
    reference_holds_batches: bool = True,
    population: int | None = None,
) -> NoiseScale:
    """The simple noise scale tr Σ/‖∇f‖² without the bias that a reference gradient from finitely many examples brings.

    The reference of R examples is itself off by tr Σ/R in the mean square. So E‖reference‖² = ‖∇f‖² + tr Σ/R, and
    E‖g_B − reference‖² is tr Σ (1/B − 1/R) if the examples of the batch are among those of the reference, and
    tr Σ (1/B + 1/R) if they are others. McCandlish, Kaplan, Amodei et al. (2018), "An Empirical Model of Large-Batch
    Training", arXiv 1812.06162, equation 2.9 and appendix A.1.

    Where both are drawn without replacement from a population of M examples, whose mean gradient is ∇f, each variance
    has the finite-population term: E‖reference‖² = ‖∇f‖² + tr Σ (1/R − 1/M), and if they are drawn independently
    E‖g_B − reference‖² = tr Σ (1/B + 1/R − 2/M), with tr Σ from the sum of squares over M − 1 (Cochran 1977, "Sampling
    Techniques", theorem 2.2).

    Args:
        norms: ``[batches]`` noise norms ‖g_B − reference‖.
        reference_norm: norm of the reference gradient.
        batch_size: B, examples in a batch.
        reference_examples: R, different examples in the reference.
        reference_holds_batches: whether the batches were drawn from the examples of the reference; without a
            ``population``.
        population: M, the examples that batches and reference are drawn from; infinitely many by default.

    Raises:
        ValueError: norms that are not finite and non-negative, a batch size below 1, a reference that is not larger
            than the batches it holds, or a population that holds not more than a batch or less than the reference.
    """
    squares = _checked_norms(norms) ** 2
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size} must be at least 1")
    holds = reference_holds_batches and population is None
    if reference_examples < 1 or (holds and reference_examples <= batch_size):
        raise ValueError(f"reference_examples: {reference_examples} must be more than the batch size {batch_size}")
    if population is None:
        overlap = -1 if reference_holds_batches else 1
        trace = float(squares.mean()) / (1 / batch_size + overlap / reference_examples)
        squared_gradient = reference_norm**2 - trace / reference_examples
    elif population <= batch_size or population < reference_examples:
        raise ValueError(f"population: {population} must be more than the batch size and at least reference_examples")
    else:
        trace = float(squares.mean()) / (1 / batch_size + 1 / reference_examples - 2 / population)
        squared_gradient = reference_norm**2 - trace * (1 / reference_examples - 1 / population)
    return NoiseScale(trace, squared_gradient, trace / squared_gradient if squared_gradient > 0 else np.inf)


def _checked_norms(norms: ArrayLike) -> Array:
    checked = np.asarray(norms, dtype=np.float64)
    if checked.ndim != 1 or not len(checked):
        raise ValueError(f"norms must have the shape [samples], not {list(checked.shape)}")
    if not (np.isfinite(checked) & (checked >= 0)).all():
        raise ValueError("norms must be finite and not negative")
    return checked
