"""The keys that all transformers of the registry share, named as in GPT-2's code."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt, ValidationInfo, field_validator

from .settings import ModelSettings, Probability

HEAD_WIDTH = 64
"""Dimensions of one attention head in GPT-2, BERT and ViT-B."""


def default_heads(n_embd: int) -> int:
    """The largest number of heads that divides ``n_embd`` and leaves each at least 64 dimensions; at least 1."""
    return next(heads for heads in range(max(1, n_embd // HEAD_WIDTH), 0, -1) if n_embd % heads == 0)


class TransformerSettings(ModelSettings):
    """What all transformers share.

    Attributes:
        n_layer: number of blocks.
        n_embd: width of the residual stream.
        n_head: attention heads; must divide ``n_embd``. By default as many as have 64 dimensions each.
        n_inner: width of the feed-forward layer; 4 ``n_embd`` by default.
        dropout: one probability for all of the model's dropouts.
        attention: ``sdpa`` uses torch's fused kernels, ``eager`` plain matrix products. The fused kernels cannot be
            differentiated twice, so curvature needs ``eager``.
    """

    n_layer: PositiveInt
    n_embd: PositiveInt
    n_head: PositiveInt | None = None
    n_inner: PositiveInt | None = None
    dropout: Probability
    attention: Literal["sdpa", "eager"] = "sdpa"

    @field_validator("n_head")
    @classmethod
    def _heads_divide_width(cls, n_head: int | None, info: ValidationInfo) -> int | None:
        n_embd = info.data.get("n_embd")
        if n_embd is None:  # n_embd is wrong itself, and that is reported
            return n_head
        if n_head is None:
            return default_heads(n_embd)
        if n_embd % n_head:
            raise ValueError(f"{n_head} does not divide n_embd, {n_embd}; leave n_head out for {default_heads(n_embd)}")
        return n_head

    @field_validator("n_inner")
    @classmethod
    def _inner_follows_width(cls, n_inner: int | None, info: ValidationInfo) -> int | None:
        n_embd = info.data.get("n_embd")
        return 4 * n_embd if n_inner is None and n_embd is not None else n_inner
