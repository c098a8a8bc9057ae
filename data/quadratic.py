"""Quadratics with given eigenvalues, whose gradients have noise of a known law."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from ..seeds import derive_seed
from .base import DataSettings, Kind, NoisyQuadratic
from .noise_laws import NOISE_LAWS, Gaussian

if TYPE_CHECKING:
    import torch

    from .noise_laws import NoiseLaw

    AnyNoiseLaw = NoiseLaw
else:
    AnyNoiseLaw = NOISE_LAWS.as_field()

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

        from .noise_vectors import NoiseVectors
        from .rotated_blocks import merged, rotated_blocks

        blocks = merged(self.blocks) if self.dense else self.blocks
        hessian = rotated_blocks(blocks, 1, self._generator("rotations"))[0]
        noise = self.noise_scale * self.noise.draw((self.examples, len(hessian)), self._generator("noise"))
        return NoisyQuadratic(
            NoiseVectors((noise - noise.mean(dim=0)).float()),
            NoiseVectors(torch.zeros(1, len(hessian))),
            hessian.float(),
            tuple(map(len, blocks)),
        )

    def _generator(self, axis: str) -> torch.Generator:
        import torch

        return torch.Generator().manual_seed(derive_seed(self.sample, f"quadratic {axis}"))
