"""A point: parameters that are their own output, for tasks on quadratics."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from .base import Head, ModelSettings

if TYPE_CHECKING:
    from torch import nn


class Point(ModelSettings):
    """A point w to optimize; its parameters are one vector for each block of a quadratic's Hessian.

    Attributes:
        start: coordinates of the first point; standard normal ones, by the experiment's seed, unless given.
    """

    paper: ClassVar[str] = "the variable of the quadratics of Zhang et al. 2024, arXiv:2402.16788"
    tasks: ClassVar[frozenset[str]] = frozenset({"quadratic"})

    name: Literal["point"] = "point"
    start: tuple[float, ...] | None = None

    def _build(self, head: Head) -> nn.Module:
        """A module that is called without an input and returns the point, at first ``start``."""
        import torch

        from .modules import Blocks

        if self.start is not None and len(self.start) != head.outputs:
            raise ValueError(f"model.start: {len(self.start)} coordinates, but points have {head.outputs}")
        start = torch.randn(head.outputs) if self.start is None else torch.tensor(self.start)
        return Blocks(start, head.block_sizes)
