"""What a diagnosis will compute, known before it is begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...hessian.blocks import Block
from ...hessian.selection import select_blocks
from ...hessian.spectra import Effort
from .subject import Subject

REFERENCE_TIMES = 2
"""The reference gradient is that of so many times the mini-batches of the noise, as in the study."""


@dataclass(frozen=True)
class Plan:
    """What a diagnosis will compute.

    Attributes:
        batches: mini-batches, hence samples of the noise.
        blocks: whose spectra are measured.
        effort: Lanczos steps and probes of each of them.
        gradients: of mini-batches, at most.
        products: of blocks of the Hessian with vectors.
    """

    batches: int
    blocks: Sequence[Block]
    effort: Effort
    gradients: int
    products: int


def make_plan(subject: Subject, *, batches: int, probes: int, steps: int, blocks: int | Sequence[str]) -> Plan:
    """What a diagnosis will compute.

    Args:
        subject: what is diagnosed.
        batches: samples of the noise.
        probes: of each block.
        steps: Lanczos steps of each probe.
        blocks: at most so many weight matrices, spread evenly over the network; or globs for names of blocks.

    Raises:
        UserError: no block has such a name.
    """
    if isinstance(blocks, int):
        chosen = _spread(select_blocks(subject.model, "weights"), blocks)
    else:
        chosen = select_blocks(subject.model, blocks)
    effort = Effort(steps=steps, probes=probes)
    parameters = dict(subject.model.named_parameters())
    sizes = [block.size(parameters) for block in chosen]
    products = sum(min(size, effort.products(size)) for size in sizes)
    return Plan(batches, chosen, effort, (1 + REFERENCE_TIMES) * batches, products)


def _spread(blocks: Sequence[Block], count: int) -> list[Block]:
    """So many of the blocks, evenly spaced from the first to the last."""
    if count >= len(blocks):
        return list(blocks)
    return [blocks[round(place * (len(blocks) - 1) / max(1, count - 1))] for place in range(count)]
