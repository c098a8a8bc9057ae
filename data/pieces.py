"""Cutting a long document where no tokenizer notices."""

from __future__ import annotations

import re
from collections.abc import Iterator

PIECE_CHARACTERS = 50_000
"""Encoding takes longer than in proportion to a piece's length, and pieces are encoded on several cores at once."""

_LONE_LINE_END = re.compile(r"(?<=\S)\n(?=\S)")


def pieces(document: str) -> Iterator[str]:
    """The document in pieces of about ``PIECE_CHARACTERS``; a document without line ends stays whole.

    A piece begins with a line end that has no other white space beside it. Tokenizers by character, byte pair and
    WordPiece separate tokens at that place anyway, so the pieces have the tokens of the whole.
    """
    start = 0
    while cut := _LONE_LINE_END.search(document, start + PIECE_CHARACTERS):
        yield document[start : cut.start()]
        start = cut.start()
    if start < len(document):
        yield document[start:]
