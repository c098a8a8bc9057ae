"""From text to token ids and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tokenizers

from ..errors import UserError
from .cache import cached_file, content_digest
from .paths import local_folder
from .text import SPECIAL_TOKENS, Documents, TokenizedSettings

FORMAT = "1"
"""Part of every cached tokenizer's name; raised when the same settings should give other tokens."""


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary and the rules that cut a text into its entries.

    Text never gives a special token: ``[MASK]`` written in a book is ordinary text.

    Attributes:
        backend: the ``tokenizers`` object, for what this class does not offer.
        pad_id: fills short examples up.
        mask_id: stands for a hidden token; None where the tokenizer has none.
        separator_id: stands between documents, and between a question and its context.
        classification_id: begins an example of BERT's.
        special_ids: ids that stand for no text.
        vocab_size: one more than the highest id.
    """

    backend: tokenizers.Tokenizer
    pad_id: int
    mask_id: int | None
    separator_id: int
    classification_id: int
    special_ids: frozenset[int]
    vocab_size: int = field(init=False)

    def __post_init__(self) -> None:
        self.backend.encode_special_tokens = True
        object.__setattr__(self, "vocab_size", 1 + max(self.backend.get_vocab().values()))

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without special tokens."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, on all cores."""
        encoded = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a text, and the characters [start, end) that each stands for."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``, special tokens spelled out."""
        return self.backend.decode(list(ids), skip_special_tokens=False)

    def digest(self) -> str:
        """Stands for everything that decides which ids a text gets."""
        return content_digest(self.backend.to_str())


def load_tokenizer(settings: TokenizedSettings, documents: Documents) -> Tokenizer:
    """The tokenizer that ``settings`` ask for, trained on ``documents`` unless it is in the cache.

    Raises:
        UserError: there is no such pretrained tokenizer, or nothing to train one on; the message is one line.
    """
    if settings.tokenizer_name is not None:
        return _pretrained(settings.tokenizer_name)

    def build(path: Path) -> None:
        from .tokenizer_training import train_tokenizer

        path.write_text(train_tokenizer(settings, documents).to_str(), encoding="utf-8")

    key = content_digest(FORMAT, settings.tokenizer, str(settings.vocab_size), documents.digest)
    backend = tokenizers.Tokenizer.from_file(str(cached_file(f"tokenizers/{key}.json", build)))
    vocabulary = backend.get_vocab()
    pad, mask, separator, classification, unknown = (vocabulary[token] for token in SPECIAL_TOKENS)
    special_ids = frozenset((pad, mask, separator, classification, unknown))
    return Tokenizer(backend, pad, mask, separator, classification, special_ids)


def _pretrained(name: str) -> Tokenizer:
    from transformers import AutoTokenizer

    folder = local_folder(name, "data.tokenizer_name")
    try:
        loaded = AutoTokenizer.from_pretrained(str(folder or name), local_files_only=folder is not None)
    except Exception as error:  # a damaged file gives a bare Exception
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"data.tokenizer_name: cannot load the tokenizer {name}: {reason}") from error
    separator = next((id for id in (loaded.sep_token_id, loaded.eos_token_id) if id is not None), None)
    if separator is None or not loaded.is_fast:
        raise UserError(f"data.tokenizer_name: {name} has no separator token, or no tokenizer.json")
    return Tokenizer(
        backend=loaded.backend_tokenizer,
        pad_id=separator if loaded.pad_token_id is None else loaded.pad_token_id,
        mask_id=loaded.mask_token_id,
        separator_id=separator,
        classification_id=separator if loaded.cls_token_id is None else loaded.cls_token_id,
        special_ids=frozenset(loaded.all_special_ids),
    )


def use_one_thread() -> None:
    """Keep ``tokenizers`` (before 0.23) from hanging, or warning of it, in processes that are forked from here on."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
