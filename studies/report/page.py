"""One HTML page that needs nothing beside it: no network, no script, no other file."""

from __future__ import annotations

import base64
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ..verdicts.tables import Table

MOST_ROWS = 200
"""Of a table on the page; the file it comes from has them all."""

MOST_BYTES = 1_000_000
"""Of an SVG on the page."""

MIME_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(frozen=True)
class Picture:
    """A picture with its bytes inside.

    Attributes:
        name: what it is called.
        source: a data URI. An SVG inside an image cannot clash with the names inside another one.
    """

    name: str
    source: str

    @classmethod
    def read(cls, path: Path) -> Picture:
        """An SVG or PNG file."""
        content = base64.b64encode(path.read_bytes()).decode("ascii")
        return cls(path.stem, f"data:{MIME_TYPES[path.suffix]};base64,{content}")

    @classmethod
    def all_in(cls, folder: Path) -> list[Picture]:
        """The pictures in a folder by name: as SVG, or as PNG where there is no SVG or it is too large."""
        chosen = {path.stem: path for path in folder.glob("*.png")}
        chosen |= {
            path.stem: path
            for path in folder.glob("*.svg")
            if path.stem not in chosen or path.stat().st_size <= MOST_BYTES
        }
        return [cls.read(chosen[name]) for name in sorted(chosen)]


@dataclass(frozen=True)
class Numbers:
    """A table with a name, and how many of its rows are left out."""

    name: str
    table: Table
    left_out: int = 0

    @classmethod
    def cut(cls, name: str, table: Table) -> Numbers:
        """The first rows of a table."""
        return cls(name, Table(table.columns, table.rows[:MOST_ROWS]), max(len(table.rows) - MOST_ROWS, 0))

    @classmethod
    def read(cls, path: Path) -> Numbers:
        """A CSV file, its numbers with six digits.

        Raises:
            UserError: it is empty, or no CSV file.
        """
        try:
            with path.open(newline="", encoding="utf-8") as file:
                lines = [tuple(map(_six_digits, line)) for line in csv.reader(file, strict=True)]
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path} is no CSV file in UTF-8: {error}") from None
        if not lines:
            raise UserError(f"{path} is empty")
        return cls.cut(path.name, Table(lines[0], lines[1:]))


@dataclass(frozen=True)
class Section:
    """A study, or some runs.

    Attributes:
        title: the heading.
        provenance: what it was made with: names and values.
        pictures: all of them.
        tables: the numbers behind the pictures.
        configs: names and texts.
        notes: what could not be shown.
    """

    title: str
    provenance: Table
    pictures: Sequence[Picture] = ()
    tables: Sequence[Numbers] = ()
    configs: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()


def write_page(out: Path, sections: Sequence[Section], verdicts: Table | None, count: str) -> None:
    """Write the page.

    Args:
        out: where to.
        sections: in order.
        verdicts: of all of them; None where there are none.
        count: how many of each kind, in words.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page.render(sections=sections, verdicts=verdicts, count=count), encoding="utf-8")


def _six_digits(text: str) -> str:
    """A number that is not whole with six digits; any other text as it is."""
    if "." not in text and "e" not in text:
        return text
    try:
        return f"{float(text):.6g}"
    except ValueError:
        return text
