"""What the transformers share: keys named as in GPT-2's code, and for GPT-2 and BERT how transformers builds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from .base import Head, ModelSettings, Probability

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel


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


class LanguageModelSettings(TransformerSettings):
    """What all language models share.

    Attributes:
        n_positions: the longest sequence in tokens.
        pretrained: folder, ``package:NAME/PATH`` or hub name of a trained checkpoint in transformers' format, whose
            sizes these must be; random weights by default.
        causal: whether a token sees only what is before it.
        dropouts: what transformers' configuration calls the dropout probabilities.
    """

    causal: ClassVar[bool]
    dropouts: ClassVar[tuple[str, ...]]

    n_positions: PositiveInt
    dropout: Probability = 0.1
    pretrained: Annotated[str, Field(min_length=1)] | None = None

    def context_length(self) -> int:
        """The longest sequence in tokens."""
        return self.n_positions

    def hf_config(self, vocab_size: int) -> PreTrainedConfig:
        """The configuration of transformers for these settings and a vocabulary of ``vocab_size`` tokens."""
        raise NotImplementedError

    def hf_options(self) -> dict[str, Any]:
        """Those options of transformers' configuration that hold for a pretrained checkpoint too."""
        return dict.fromkeys(self.dropouts, self.dropout) | {"use_cache": False}

    def hf_class(self, task: str) -> type[PreTrainedModel]:
        """The class of transformers that has the head for a task."""
        raise NotImplementedError

    def _build(self, head: Head) -> nn.Module:
        """Transformers' model with its initialisation, or the checkpoint's weights; in training mode."""
        from .modules import spell_out_masks
        from .pretrained import load_pretrained

        model_class, config = self.hf_class(head.task), self.hf_config(head.outputs)
        if self.pretrained is None:
            model: nn.Module = model_class(config).train()
        else:
            model = load_pretrained(self.pretrained, model_class, config, self.hf_options(), self.attention)
        spell_out_masks(model, self.causal)
        return model
