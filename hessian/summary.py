"""The rows that a record keeps of measured spectra: one a block, one a pair of blocks, and some on the whole model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .blocks import Block
from .measures import BlockMeasures, block_measures, directional_sharpness, gradient_heterogeneity, outside_blocks
from .operators import HessianOperator
from .pairs import DistanceRow, heterogeneity
from .preconditioning import AdamStep
from .spectrum import Spectrum

FULL = "full"
"""Name of the block that is the whole Hessian."""

ADAM = "adam_"
"""Before the name of whatever is about the Hessian as Adam's preconditioner makes it."""


@dataclass(frozen=True, kw_only=True)
class BlockRow:
    """One row of blocks.csv.

    Attributes:
        block: its name.
        probes: independent probes; 1 where all eigenvalues were computed.
        exact: whether they were.
        measures: of the block.
        adam: of the block as Adam's preconditioner makes it; None where it was not measured.
        gradient_norm: Euclidean norm of the block's gradient.
    """

    block: str
    probes: int
    exact: bool
    measures: BlockMeasures
    adam: BlockMeasures | None
    gradient_norm: float


@dataclass(frozen=True)
class ModelRow:
    """One row of measures.csv, on the model as a whole.

    Attributes:
        measure: its name; that of a distance means the mean over all pairs of blocks.
        sigma: the smoothing of a distance; empty elsewhere.
        value: what was measured.
        noise_floor: of a distance, the mean over pairs; None elsewhere.
    """

    measure: str
    sigma: str
    value: float
    noise_floor: float | None = None


def block_rows(
    blocks: Sequence[Block],
    spectra: Mapping[str, Spectrum],
    adam_spectra: Mapping[str, Spectrum],
    gradient: Mapping[str, Tensor],
) -> list[BlockRow]:
    """The rows of blocks.csv, in the order of the blocks.

    Args:
        blocks: those that were measured.
        spectra: by name of the block.
        adam_spectra: the same of D^{-1/2} H D^{-1/2}, as far as they were measured.
        gradient: one tensor a parameter.
    """
    rows = []
    for block in blocks:
        spectrum, adam = spectra[block.name], adam_spectra.get(block.name)
        rows.append(
            BlockRow(
                block=block.name,
                probes=spectrum.probes,
                exact=spectrum.exact,
                measures=block_measures(spectrum),
                adam=None if adam is None else block_measures(adam),
                gradient_norm=float(torch.linalg.vector_norm(block.of(gradient))),
            )
        )
    return rows


def mean_distances(rows: Iterable[DistanceRow], prefix: str = "") -> list[ModelRow]:
    """The mean over all pairs of blocks, with the mean noise floor, of each distance and smoothing."""
    return [
        ModelRow(prefix + measure, sigma, mean.value, mean.noise_floor)
        for (measure, sigma), mean in heterogeneity(rows).items()
    ]


def model_rows(
    operator: HessianOperator,
    gradient: Mapping[str, Tensor],
    step: AdamStep,
    blocks: Sequence[Block],
    spectra: Mapping[str, Spectrum],
) -> Iterator[ModelRow]:
    """What else is said about the whole model; a measure that does not exist here has no row.

    Args:
        operator: the Hessian of all trained parameters.
        gradient: one tensor a parameter.
        step: what Adam does here.
        blocks: those that were measured, without the full Hessian.
        spectra: by name of the block, ``full`` among them if the full Hessian was measured.
    """
    of_blocks = {block.name: block.of(gradient) for block in blocks}
    measures: dict[str, Callable[[], float]] = {
        "gradient_heterogeneity": lambda: gradient_heterogeneity(of_blocks),
        "directional_sharpness_sgd": lambda: directional_sharpness(operator, operator.block.of(gradient)),
        "directional_sharpness_adam": lambda: directional_sharpness(operator, operator.block.of(step.direction)),
        "outside_blocks": lambda: outside_blocks(spectra[FULL], [spectra[block.name] for block in blocks]),
    }
    if FULL not in spectra:
        del measures["outside_blocks"]
    for name, measure in measures.items():
        try:
            value = measure()
        except ValueError:
            continue
        if math.isfinite(value):
            yield ModelRow(name, "", value)
