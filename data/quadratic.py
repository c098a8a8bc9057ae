"""Quadratics with given eigenvalues, block by block, whose gradients have noise of a known law."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from ..seeds import derive_seed
from .base import DataSettings, Key, Kind, NoisyQuadratic
from .digest import settings_digest
from .noise_laws import NOISE_LAWS, Gaussian

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from .noise_laws import NoiseLaw

    AnyNoiseLaw = NoiseLaw
else:
    AnyNoiseLaw = NOISE_LAWS.as_field()

Blocks = Sequence[Sequence[float]]
"""The eigenvalues of each block."""

Eigenvalues = Annotated[tuple[float, ...], Field(min_length=1)]


class Quadratic(DataSettings):
    """L(w) = ½ wᵀHw with given eigenvalues, block by block; examples differ in a noise of known law on the gradient.

    Example i has the loss ½ wᵀHw + ξᵢᵀw, hence the gradient Hw + ξᵢ. The ξᵢ of all examples add up to zero, so the full
    batch has no noise. The held-out part is one example with ξ = 0: the evaluation loss is L itself.

    Attributes:
        blocks: the eigenvalues of each block of H; each block is rotated at random.
        dense: all eigenvalues in one block instead.
        noise: law of each coordinate of ξ.
        noise_scale: each coordinate is so many times a draw of the law.
        examples: to train on.
        sample: which of all such rotations and noises.
    """

    paper = "after Zhang et al. 2024, arXiv:2402.16788 (blocks), and Zhang et al. 2020, arXiv:1912.03194 (noise)"
    kind: ClassVar[Kind] = "quadratics"

    name: Literal["quadratic"] = "quadratic"
    blocks: Annotated[tuple[Eigenvalues, ...], Field(min_length=1)]
    dense: bool = False
    noise: AnyNoiseLaw = Gaussian()
    noise_scale: Annotated[float, Field(ge=0)] = 1.0
    examples: PositiveInt = 1000
    sample: int = 0

    def load(self, seed: int) -> NoisyQuadratic:
        """H and the noise in memory; ``seed`` plays no part, ``sample`` does."""
        import torch

        blocks = merged(self.blocks) if self.dense else self.blocks
        hessian = rotated_blocks(blocks, 1, self._generator("rotations"))[0]
        noise = self.noise_scale * self.noise.draw((self.examples, len(hessian)), self._generator("noise"))
        return NoisyQuadratic(
            NoiseVectors((noise - noise.mean(dim=0)).float()),
            NoiseVectors(torch.zeros(1, len(hessian))),
            hessian.float(),
            tuple(map(len, blocks)),
            lambda: settings_digest(self),
        )

    def _generator(self, axis: str) -> Generator:
        import torch

        return torch.Generator().manual_seed(derive_seed(self.sample, f"quadratic {axis}"))


class NoiseVectors:
    """Noise vectors in memory, one per example.

    Args:
        noise: float32 ``[examples, size]``.
    """

    def __init__(self, noise: Tensor) -> None:
        self._noise = noise

    def __len__(self) -> int:
        return len(self._noise)

    def batch(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """``noise``, float32 ``[len(keys), size]``."""
        return {"noise": self._noise[[index for _, index in keys]]}


def rotated_blocks(blocks: Blocks, count: int, generator: Generator) -> Tensor:
    """Block-diagonal matrices ``[count, size, size]``, float64, that differ in the rotations of their blocks.

    Args:
        blocks: eigenvalues of each block.
        count: how many matrices.
        generator: of the rotations.
    """
    import torch

    sizes = [len(eigenvalues) for eigenvalues in blocks]
    matrices = torch.zeros(count, sum(sizes), sum(sizes), dtype=torch.float64)
    for eigenvalues, span in zip(blocks, spans(sizes), strict=True):
        rotation = random_rotations(count, len(eigenvalues), generator)
        matrices[:, span, span] = rotation * torch.tensor(eigenvalues, dtype=torch.float64) @ rotation.mT
    return matrices


def random_rotations(count: int, size: int, generator: Generator) -> Tensor:
    """Uniformly distributed orthogonal matrices ``[count, size, size]``.

    Source: Mezzadri, "How to generate random matrices from the classical compact groups", Notices of the AMS 2007:
    the signs of R's diagonal make QR unique and Q uniform.
    """
    import torch

    q, r = torch.linalg.qr(torch.randn(count, size, size, dtype=torch.float64, generator=generator))
    return q * r.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)


def merged(blocks: Blocks) -> Blocks:
    """One block with all the eigenvalues."""
    return [list(chain.from_iterable(blocks))]


def spans(sizes: Sequence[int]) -> list[slice]:
    """The position of each block on the diagonal."""
    return [slice(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]
