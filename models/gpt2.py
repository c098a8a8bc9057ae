"""GPT-2, built by transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from .transformer import LanguageModelSettings

if TYPE_CHECKING:
    from transformers import GPT2Config, PreTrainedModel


class GPT2Settings(LanguageModelSettings):
    """What all sizes of GPT-2 share."""

    paper: ClassVar[str] = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners"
    tasks: ClassVar[frozenset[str]] = frozenset({"causal_lm"})
    causal: ClassVar[bool] = True
    dropouts: ClassVar[tuple[str, ...]] = ("resid_pdrop", "embd_pdrop", "attn_pdrop")

    def hf_config(self, vocab_size: int) -> GPT2Config:
        """The configuration of transformers for these settings and a vocabulary of ``vocab_size`` tokens."""
        from transformers import GPT2Config

        return GPT2Config(
            vocab_size=vocab_size,
            n_layer=self.n_layer,
            n_embd=self.n_embd,
            n_head=self.n_head,
            n_inner=self.n_inner,
            n_positions=self.n_positions,
            # The same function as the default gelu_new in one kernel, which saves a tenth of a training step on CPU.
            activation_function="gelu_pytorch_tanh",
            # Only text generation uses these. Transformers warns of the defaults where the vocabulary lacks them.
            bos_token_id=None,
            eos_token_id=None,
            attn_implementation=self.attention,
            **self.hf_options(),
        )

    def hf_class(self, task: str) -> type[PreTrainedModel]:
        """The class of transformers that has the head for a task."""
        from transformers import GPT2LMHeadModel

        return GPT2LMHeadModel


class GPT2Nano(GPT2Settings):
    """A GPT-2 of 10.7 M parameters besides the vocabulary: 6 layers, 6 heads, 384 dimensions, context of 256."""

    name: Literal["gpt2_nano"] = "gpt2_nano"
    n_layer: PositiveInt = 6
    n_embd: PositiveInt = 384
    n_positions: PositiveInt = 256


class GPT2(GPT2Settings):
    """GPT-2 small, 124 M parameters: 12 layers, 12 heads, 768 dimensions, context of 1024."""

    name: Literal["gpt2"] = "gpt2"
    n_layer: PositiveInt = 12
    n_embd: PositiveInt = 768
    n_positions: PositiveInt = 1024
