"""A point: the parameters themselves, without anything that computes with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from .base import Head, ModelSettings

if TYPE_CHECKING:
    from torch import nn


class Point(ModelSettings):
    """A point w to move; its parameters are one vector for each block of a quadratic's Hessian.

    Attributes:
        start: coordinates of the first point; standard normal ones, by the experiment's seed, unless given.
    """

    paper: ClassVar[str] = "the variable of the quadratics of Zhang et al. 2024, arXiv:2402.16788"
    tasks: ClassVar[frozenset[str]] = frozenset({"quadratic"})

    name: Literal["point"] = "point"
    start: tuple[float, ...] | None = None

    def build(self, head: Head) -> nn.Module:
        """The first point.

        Raises:
            ValueError: the task is no quadratic, or its points have another number of coordinates than ``start``.
        """
        self.check(head)
        import torch

        from .point_blocks import PointBlocks

        if self.start is not None and len(self.start) != head.outputs:
            raise ValueError(f"model.start: {len(self.start)} coordinates, but points have {head.outputs}")
        start = torch.randn(head.outputs) if self.start is None else torch.tensor(self.start)
        return PointBlocks(start, head.block_sizes)
