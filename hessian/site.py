"""A model at fixed weights, and all else that its spectra depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import __version__
from ..data.batches import BatchOrder
from ..data.settings import Examples
from ..errors import UserError
from ..seeds import derive_seed
from ..tasks.settings import Batch
from .blocks import Block
from .evaluation import Loss
from .kept import KeptSpectra
from .quadrature import FEWEST_PROBES
from .settings import HessianSettings
from .spectra import Effort, measure_blocks
from .spectrum import Spectrum

Matrix = Literal["hessian", "adam"]
"""The Hessian, or D^{-1/2} H D^{-1/2} with Adam's preconditioner D."""

AT_ONCE = 10
"""Products of a smaller block that are computed together, and of any on a GPU."""

BYTES_PER_NUMBER = 8
LARGEST_BASIS = 4 * 2**30
"""Bytes of Lanczos vectors up to which all of a block's are kept, to keep them orthogonal. Large blocks have few
probes."""

LARGE_BLOCK = 50_000
"""On a CPU, products of larger blocks are computed one by one: together they take more memory, and no less time."""


@dataclass(frozen=True)
class Target:
    """One spectrum that is wanted: that of a block of one of the matrices."""

    matrix: Matrix
    block: Block


@dataclass(frozen=True)
class Site:
    """Where a measurement takes place.

    Attributes:
        model: in whatever mode; left as it is.
        loss: from the model and a batch to the summed loss and the number of its terms.
        batches: the loss is the mean over the terms of all of them.
        scale: D, one tensor a parameter; needed for the matrix ``adam`` alone.
        effort: how much is spent on each spectrum.
        seed: of the probes.
    """

    model: nn.Module
    loss: Loss
    batches: Sequence[Batch]
    scale: Mapping[str, Tensor]
    effort: Effort
    seed: int

    def measure(self, target: Target, kept: Path) -> Spectrum:
        """The spectrum of a target, or the rest of it that is not kept yet.

        Args:
            target: which spectrum.
            kept: folder for finished work.

        Raises:
            FloatingPointError: a product with the matrix is no finite number.
            UserError: see ``HessianOperator``.
        """
        parameters = dict(self.model.named_parameters())
        size = target.block.size(parameters)
        on_cpu = next(iter(parameters.values())).device.type == "cpu"
        basis = BYTES_PER_NUMBER * size * self.effort.steps * min(self.effort.probes, FEWEST_PROBES)
        measured = measure_blocks(
            self.model,
            self.loss,
            self.batches,
            [target.block],
            replace(self.effort, reorthogonalize=basis <= LARGEST_BASIS),
            at_once=1 if on_cpu and size > LARGE_BLOCK else AT_ONCE,
            seed=self.seed,
            scale=dict(self.scale) if target.matrix == "adam" else None,
            kept=KeptSpectra(kept / target.matrix),
        )
        ((_, spectrum),) = measured
        return spectrum


def fixed_batches(examples: Examples, settings: HessianSettings, seed: int) -> list[Batch]:
    """The batches of every measurement of a run, so that its steps can be compared; no example comes twice.

    Raises:
        UserError: there are not that many examples.
    """
    size = settings.batch_size
    wanted = settings.batches * size
    if wanted > len(examples):
        raise UserError(
            f"hessian.batch_size: {settings.batches} x {size} examples do not fit into the {len(examples)} to train on"
        )
    keys = BatchOrder(len(examples), wanted, derive_seed(seed, "hessian")).keys(0)
    return [examples.batch(keys[start : start + size]) for start in range(0, wanted, size)]


def fingerprint(site: Site) -> str:
    """Sixteen hexadecimal digits that stand for all that a spectrum at this site depends on, its block aside."""
    hashed = hashlib.blake2b(digest_size=8)
    device = str(next(site.model.parameters()).device.type)
    hashed.update(json.dumps([__version__, torch.__version__, device, site.seed, repr(site.effort)]).encode())
    for name, value in _named_values(site):
        hashed.update(name.encode())
        hashed.update(value if isinstance(value, bytes) else _bytes(value))
    return hashed.hexdigest()


def _named_values(site: Site) -> Iterator[tuple[str, Any]]:
    yield from site.model.state_dict().items()
    yield from sorted(site.scale.items())
    for batch in site.batches:
        for name, value in batch.items():
            yield name, value if isinstance(value, Tensor) else repr(value).encode()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
