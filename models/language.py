"""What GPT-2 and BERT share: keys, building by transformers, and loading of a trained checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, PositiveInt

from .settings import Head, Probability
from .transformer import TransformerSettings

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel


class LanguageModelSettings(TransformerSettings):
    """What all language models share.

    Attributes:
        n_positions: the longest sequence in tokens.
        pretrained: folder or hub name of a trained checkpoint in transformers' format; random weights by default. The
            sizes must be the checkpoint's.
    """

    causal: ClassVar[bool]

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
        raise NotImplementedError

    def hf_class(self, task: str) -> type[PreTrainedModel]:
        """The class of transformers that has the head for a task."""
        raise NotImplementedError

    def build(self, head: Head) -> nn.Module:
        """Transformers' model with its initialisation, or the checkpoint's weights; in training mode.

        Raises:
            ValueError: the model cannot do the task, or the checkpoint is missing, damaged or of other sizes.
        """
        self.check(head)
        from .attention import spell_out_masks
        from .pretrained import load_pretrained

        model_class, config = self.hf_class(head.task), self.hf_config(head.outputs)
        if self.pretrained is None:
            model: nn.Module = model_class(config).train()
        else:
            model = load_pretrained(self.pretrained, model_class, config, self.hf_options(), self.attention)
        spell_out_masks(model, self.causal)
        return model
