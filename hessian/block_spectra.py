"""The Hessian spectra of a model's blocks: all eigenvalues of small blocks, stochastic Lanczos quadrature of others.

``block_spectra`` → ``measure_blocks`` → ``operators.HessianOperator`` (products of one block) → ``slq`` or
``adaptive_slq`` (nodes and weights) → ``spectrum.Spectrum``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..seeds import derive_seed
from ..tasks.base import Loss
from .blocks import Block, covering, select_blocks
from .operators import HessianOperator
from .preconditioning import Preconditioned
from .slq import adaptive_slq, draw_probes, exact_spectrum, probe_quadrature, probes_needed
from .spectrum import RELATIVE, Smoothing, Spectrum, stack_probes

EXPECTED_STEPS = 25
"""Steps that an adaptive measurement usually takes."""


@dataclass(frozen=True)
class Effort:
    """How many products the spectrum of a block may take.

    Attributes:
        steps: Lanczos steps; with a tolerance, at most.
        probes: independent probes; with a tolerance, at most.
        tolerance: Jensen–Shannon distance to the true density at which to stop. None for the published scheme: each
            probe alone, exactly ``steps`` steps.
        smoothing: the width at which the tolerance holds.
        exact: compute all eigenvalues of blocks with no more parameters than products needed otherwise.
        dtype: of the Lanczos vectors.
        reorthogonalize: hold all of a block's Lanczos vectors, steps · probes, and keep them orthogonal. Without,
            densities remain right, but converged eigenvalues are repeated.
    """

    steps: int = 100
    probes: int = 10
    tolerance: float | None = None
    smoothing: Smoothing = RELATIVE
    exact: bool = True
    dtype: torch.dtype = torch.float64
    reorthogonalize: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1 or self.probes < 1:
            raise ValueError(f"steps and probes must be at least 1, not {self.steps} and {self.probes}")
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must be a distance between 0 and 1, not {self.tolerance}")

    def products(self, size: int) -> int:
        """About how many products a block of ``size`` parameters takes, unless it is computed exactly."""
        if self.tolerance is None:
            return self.steps * self.probes
        probes = probes_needed(size, self.tolerance, self.smoothing, self.probes)
        return min(self.steps, EXPECTED_STEPS) * probes


def block_spectra(
    model: nn.Module,
    loss_fn: Loss,
    batches: Iterable[Any],
    blocks: str | Sequence[str] | Sequence[Block] = "default",
    *,
    steps: int = 100,
    probes: int = 10,
    seed: int = 0,
    tolerance: float | None = None,
) -> dict[str, Spectrum]:
    """The Hessian spectrum of every block, by the block's name in the order of ``named_parameters``.

    Args:
        model: any module; unchanged afterwards.
        loss_fn: from the model and a batch to the summed loss and the number of its terms.
        batches: what ``loss_fn`` understands; the loss is the mean over the terms of all of them.
        blocks: a partition (see ``partition``), globs for names of blocks, or blocks.
        steps: Lanczos steps per probe, 100 as published.
        probes: per block, 10 as published.
        seed: of the probes; those of a block do not depend on which other blocks are measured.
        tolerance: stop at this Jensen–Shannon distance to the true density, several times faster than the published
            scheme; ``steps`` and ``probes`` are then limits. 0.02 is about the error of the published scheme.

    Raises:
        UserError: see ``HessianOperator`` and ``select_blocks``.
    """
    effort, batches, chosen = Effort(steps, probes, tolerance), list(batches), select_blocks(model, blocks)
    HessianOperator(model, loss_fn, batches[:1], covering(chosen)).check_symmetry()
    return dict(measure_blocks(model, loss_fn, batches, chosen, effort, seed=seed))


def measure_blocks(
    model: nn.Module,
    loss_fn: Loss,
    batches: Iterable[Any],
    blocks: Sequence[Block],
    effort: Effort,
    *,
    seed: int = 0,
    scale: dict[str, Tensor] | None = None,
    cache: MutableMapping[str, Spectrum] | None = None,
    at_once: int = 10,
) -> Iterator[tuple[str, Spectrum]]:
    """``block_spectra``, one block after another.

    Args:
        model: as in ``block_spectra``.
        loss_fn: as in ``block_spectra``.
        batches: as in ``block_spectra``.
        blocks: what to measure.
        effort: how many products for each.
        seed: of the probes.
        scale: D, one tensor per parameter: the spectra are those of D^{-1/2} H D^{-1/2} (see ``preconditioning``).
        cache: by the block's name, after each probe the spectrum of the block's probes so far. With the same arguments
            an interrupted measurement continues from there, to the same result.
        at_once: as in ``HessianOperator``.

    Yields:
        The block's name and its spectrum.
    """
    cache = {} if cache is None else cache
    batches = list(batches)
    for block in blocks:
        if not _is_complete(cache.get(block.name), effort):
            operator = HessianOperator(model, loss_fn, batches, block, at_once=at_once)
            matrix = operator if scale is None else Preconditioned(operator, block.of(scale))
            for spectrum in _stages(matrix, effort, derive_seed(seed, f"block {block.name}"), cache.get(block.name)):
                cache[block.name] = spectrum
            # Free the graphs before those of the next block are built.
            del operator, matrix
        yield block.name, cache[block.name]


def _is_complete(spectrum: Spectrum | None, effort: Effort) -> bool:
    if spectrum is None:
        return False
    return spectrum.exact or effort.tolerance is not None or spectrum.probes >= effort.probes


def _stages(
    matrix: HessianOperator | Preconditioned, effort: Effort, seed: int, known: Spectrum | None
) -> Iterator[Spectrum]:
    """The spectrum after each cached stage; the last one is the result."""
    size, device = matrix.size, matrix.device
    if effort.exact and size <= effort.products(size):
        yield exact_spectrum(matrix.matmat, size, device=device)
    elif effort.tolerance is not None:
        yield adaptive_slq(
            matrix.matmat,
            size,
            tolerance=effort.tolerance,
            steps=effort.steps,
            probes=effort.probes,
            seed=seed,
            smoothing=effort.smoothing,
            dtype=effort.dtype,
            device=device,
            reorthogonalize=effort.reorthogonalize,
        )
    else:
        rows = [] if known is None else list(zip(known.nodes, known.weights, strict=True))
        for probe in range(len(rows), effort.probes):
            vector = draw_probes(size, seed, [probe], effort.dtype, device)
            rows.append(probe_quadrature(matrix.matmat, vector, effort.steps, reorthogonalize=effort.reorthogonalize))
            yield stack_probes(rows, size)
