"""BERT, built by transformers; its masked-language head is computed only for the tokens that are to be predicted."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveInt

from .transformer import LanguageModelSettings

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BertConfig, PreTrainedModel


class BERTSettings(LanguageModelSettings):
    """What all sizes of BERT share."""

    paper: ClassVar[str] = "Devlin et al. 2019, arXiv:1810.04805"
    tasks: ClassVar[frozenset[str]] = frozenset({"masked_lm", "question_answering"})
    causal: ClassVar[bool] = False
    dropouts: ClassVar[tuple[str, ...]] = ("hidden_dropout_prob", "attention_probs_dropout_prob")

    n_positions: PositiveInt = 512

    def hf_config(self, vocab_size: int) -> BertConfig:
        """The configuration of transformers for these settings and a vocabulary of ``vocab_size`` tokens."""
        from transformers import BertConfig

        return BertConfig(
            vocab_size=vocab_size,
            num_hidden_layers=self.n_layer,
            hidden_size=self.n_embd,
            num_attention_heads=self.n_head,
            intermediate_size=self.n_inner,
            max_position_embeddings=self.n_positions,
            # The default, 0, would keep that token's embedding from learning, whatever the token is.
            pad_token_id=None,
            attn_implementation=self.attention,
            **self.hf_options(),
        )

    def hf_class(self, task: str) -> type[PreTrainedModel]:
        """The class of transformers that has the head for a task."""
        if task == "question_answering":
            from transformers import BertForQuestionAnswering

            return BertForQuestionAnswering
        return _masked_bert()


class BERTNano(BERTSettings):
    """A BERT of 0.9 M parameters besides the vocabulary: 4 layers, 2 heads, 128 dimensions."""

    name: Literal["bert_nano"] = "bert_nano"
    n_layer: PositiveInt = 4
    n_embd: PositiveInt = 128


class BERTBase(BERTSettings):
    """BERT-base, 110 M parameters: 12 layers, 12 heads, 768 dimensions (set n_layer to 6 for BERT-6)."""

    name: Literal["bert_base"] = "bert_base"
    n_layer: PositiveInt = 12
    n_embd: PositiveInt = 768


class BERTLarge(BERTSettings):
    """BERT-large, 335 M parameters: 24 layers, 16 heads, 1024 dimensions."""

    name: Literal["bert_large"] = "bert_large"
    n_layer: PositiveInt = 24
    n_embd: PositiveInt = 1024


@cache
def _masked_bert() -> type[PreTrainedModel]:
    """The class ``MaskedBert``, made on first use: a config is checked without transformers."""
    from transformers import BertForMaskedLM
    from transformers.modeling_outputs import MaskedLMOutput

    class MaskedBert(BertForMaskedLM):
        """Transformers' masked language model, with the head applied to chosen tokens only.

        The head, a product with the complete vocabulary, takes half of a small BERT's time, and 85 % of the tokens are
        not to be predicted.
        """

        predicts_at_positions: ClassVar[bool] = True

        def forward(self, input_ids: Tensor, *, positions: Tensor | None = None, **inputs: Any) -> MaskedLMOutput:
            """Logits ``[batch, chosen, vocabulary]``.

            Args:
                input_ids: int64 ``[batch, length]``.
                positions: int64 ``[batch, chosen]``, places in the text; all of them by default.
                inputs: what transformers' BERT takes.
            """
            hidden = self.bert(input_ids, **inputs).last_hidden_state
            if positions is not None:
                hidden = hidden.take_along_dim(positions[..., None], dim=1)
            return MaskedLMOutput(logits=self.cls(hidden))

    MaskedBert.__qualname__ = "MaskedBert"
    return MaskedBert


def __getattr__(name: str) -> Any:
    """Let pickle find ``MaskedBert`` in this module by its name."""
    if name == "MaskedBert":
        return _masked_bert()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
