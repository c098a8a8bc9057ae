"""A text of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..errors import UserError
from .settings import Fraction
from .text import Documents, TextSettings, split, whole


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
    from .paths import find

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
