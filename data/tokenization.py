"""From text to token ids and back: the tokenizer's config keys, pretrained tokenizers, and training a vocabulary.

The same text always gives the same vocabulary. ``tokenizers`` is imported when a tokenizer is made, so that a config
is checked without it.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt, ValidationInfo, field_validator

from ..cache import cached_file, content_digest, local_folder
from ..errors import UserError
from ..settings import Settings

if TYPE_CHECKING:
    import tokenizers

FORMAT = "1"
"""Part of every cached tokenizer's name; raised when the same settings should give other tokens."""

SPECIAL_TOKENS = ("[PAD]", "[MASK]", "[SEP]", "[CLS]", "[UNK]")
"""The first entries of every vocabulary that is trained here."""

SMALLEST_VOCABULARY = {"char": 1 + len(SPECIAL_TOKENS), "bpe": 256 + len(SPECIAL_TOKENS)}

TOLERATED_UNKNOWN = 0.01

TRAINING_CHARACTERS = 100_000_000
"""A vocabulary is trained on the first characters of the training part, so many at most."""

CHUNK_CHARACTERS = 50_000
"""Encoding time grows faster than a chunk's length, and chunks are encoded on several cores at once."""

_LONE_LINE_END = re.compile(r"(?<=\S)\n(?=\S)")


class TokenizerSettings(Settings):
    """The tokenizer that turns a source's text into ids.

    Attributes:
        tokenizer: ``char`` (one token per character), ``bpe`` (bytes, as in GPT-2) or ``wordpiece`` (lower case, as in
            BERT), trained on the training part; or ``pretrained``.
        vocab_size: most entries of a trained vocabulary, the five special tokens included.
        tokenizer_name: hub id or folder of the ``pretrained`` tokenizer.
    """

    tokenizer: Literal["char", "bpe", "wordpiece", "pretrained"] = "bpe"
    vocab_size: PositiveInt = 4096
    tokenizer_name: str | None = None

    @field_validator("vocab_size")
    @classmethod
    def _has_room_for_the_first_entries(cls, vocab_size: int, fields: ValidationInfo) -> int:
        kind = str(fields.data.get("tokenizer"))
        smallest = SMALLEST_VOCABULARY.get(kind, 0)
        if vocab_size < smallest:
            raise ValueError(f"{vocab_size} is too small, {kind} needs at least {smallest}")
        return vocab_size

    @field_validator("tokenizer_name")
    @classmethod
    def _is_for_pretrained(cls, name: str | None, fields: ValidationInfo) -> str | None:
        if (fields.data.get("tokenizer") == "pretrained") != (name is not None):
            raise ValueError("give it with tokenizer: pretrained, and only then")
        return name


@dataclass(frozen=True)
class Documents:
    """One part of a corpus.

    Attributes:
        source: what an error message calls it.
        digest: changes when the text does.
        read: gives the documents in order, as often as it is called.
    """

    source: str
    digest: str
    read: Callable[[], Iterable[str]]

    @classmethod
    def of_text(cls, text: str, source: str) -> Documents:
        """A text that is one document."""
        return cls(source, content_digest(text), lambda: [text])


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary and the rules that cut a text into its entries.

    Text never gives a special token: ``[MASK]`` written in a book is ordinary text.

    Attributes:
        backend: the ``tokenizers`` object, for what this class does not offer.
        pad_id: pads short examples.
        mask_id: replaces a hidden token; None where the tokenizer has none.
        separator_id: stands between documents, and between a question and its context.
        classification_id: begins an example of BERT's.
        special_ids: ids that stand for no text.
        unknown_id: stands for text that the vocabulary lacks; -1 where there is no such token.
        vocab_size: one more than the highest id.
    """

    backend: tokenizers.Tokenizer
    pad_id: int
    mask_id: int | None
    separator_id: int
    classification_id: int
    special_ids: frozenset[int]
    unknown_id: int = -1
    vocab_size: int = field(init=False)

    def __post_init__(self) -> None:
        # A published tokenizer.json may cut or pad each text to the length of its model, or drop merges at random.
        self.backend.no_truncation()
        self.backend.no_padding()
        if getattr(self.backend.model, "dropout", None):
            self.backend.model.dropout = None
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


def load_tokenizer(settings: TokenizerSettings, documents: Documents) -> Tokenizer:
    """The tokenizer that ``settings`` ask for, trained on ``documents`` unless it is in the cache.

    Raises:
        UserError: there is no such pretrained tokenizer, or nothing to train one on; the message is one line.
    """
    if settings.tokenizer_name is not None:
        return _pretrained(settings.tokenizer_name)
    from tokenizers import Tokenizer as Backend

    def build(path: Path) -> None:
        path.write_text(train_tokenizer(settings, documents).to_str(), encoding="utf-8")

    key = content_digest(FORMAT, settings.tokenizer, str(settings.vocab_size), documents.digest)
    backend = Backend.from_file(str(cached_file(f"tokenizers/{key}.json", build)))
    vocabulary = backend.get_vocab()
    pad, mask, separator, classification, unknown = (vocabulary[token] for token in SPECIAL_TOKENS)
    special_ids = frozenset((pad, mask, separator, classification, unknown))
    return Tokenizer(backend, pad, mask, separator, classification, special_ids, unknown)


def lone_surrogate(text: str) -> str:
    """What is wrong with a text that cannot be encoded, in words; empty for all others.

    JSON may hold one half of a pair of surrogates, as programs write it that cut a text in the middle of an emoji.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"half a character (\\u{ord(text[error.start]):04x}) at character {error.start}"
    return ""


def warn_of_unknown(unknown: int, tokens: int, source: str) -> None:
    """Warn where more than ``TOLERATED_UNKNOWN`` of the tokens of ``source`` stand for text the vocabulary lacks."""
    if unknown > TOLERATED_UNKNOWN * tokens:
        warnings.warn(
            f"data.tokenizer: {unknown / tokens:.1%} of the tokens of {source} are unknown ([UNK]): "
            "the vocabulary lacks their text, and a loss on them says little",
            stacklevel=2,
        )


def use_one_thread() -> None:
    """Keep ``tokenizers`` (before 0.23) from hanging, or warning of it, in processes that are forked from here on."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


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
        # GPT-2's is its end of text, which stands between documents.
        unknown_id=-1 if loaded.unk_token_id in (None, separator) else loaded.unk_token_id,
    )


def chunks(document: str) -> Iterator[str]:
    """The document in chunks of about ``CHUNK_CHARACTERS``; a document without line ends is one chunk.

    A chunk begins with a line end that has no other white space beside it. Character, byte-pair and WordPiece
    tokenizers separate tokens there anyway, so the chunks have the tokens of the document.
    """
    start = 0
    while cut := _LONE_LINE_END.search(document, start + CHUNK_CHARACTERS):
        yield document[start : cut.start()]
        start = cut.start()
    if start < len(document):
        yield document[start:]


def train_tokenizer(settings: TokenizerSettings, documents: Documents) -> tokenizers.Tokenizer:
    """A tokenizer of ``settings.vocab_size`` entries at most, the special tokens first.

    Raises:
        UserError: there is no text, or it has more characters than the vocabulary has room for.
    """
    texts: list[str] = []
    characters = 0
    for chunk in chain.from_iterable(map(chunks, documents.read())):
        if characters >= TRAINING_CHARACTERS:
            break
        texts.append(chunk)
        characters += len(chunk)
    if not texts:
        raise UserError(f"{documents.source}: there is no text to train a tokenizer on")
    train = {"char": _train_char, "bpe": _train_bpe, "wordpiece": _train_wordpiece}[settings.tokenizer]
    return train(texts, settings.vocab_size)


def _train_char(texts: list[str], vocab_size: int) -> tokenizers.Tokenizer:
    """One token per character: the most frequent ones, where there are more than the vocabulary has room for."""
    from tokenizers import Tokenizer, decoders, models

    counts = Counter(chain.from_iterable(texts))
    frequent = sorted(counts, key=lambda character: (-counts[character], character))
    entries = [*SPECIAL_TOKENS, *sorted(frequent[: vocab_size - len(SPECIAL_TOKENS)])]
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def _train_bpe(texts: list[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Byte pairs, merged by frequency (Radford et al. 2019, section 2.2)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _train_wordpiece(texts: list[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Subwords in lower case, without accents (Devlin et al. 2019, section 3)."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    normalizer = normalizers.BertNormalizer()
    characters = sorted(set(chain.from_iterable(map(normalizer.normalize_str, texts))) - {" "})
    # The trainer numbers continuations ("##a") in the order of a hash table, another one in each process, and breaks
    # ties by number. Listing them in advance fixes their numbers.
    listed = [*SPECIAL_TOKENS, *(f"##{character}" for character in characters)]
    needed = len(listed) + len(characters)
    if needed > vocab_size:
        raise UserError(f"data.vocab_size: {vocab_size} is too small, the characters of the text alone take {needed}")

    def around(model: models.WordPiece) -> tokenizers.Tokenizer:
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer

    trained = around(models.WordPiece(unk_token="[UNK]"))
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=listed, show_progress=False)
    trained.train_from_iterator(texts, trainer)
    tokenizer = around(models.WordPiece(vocab=trained.get_vocab(), unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer
