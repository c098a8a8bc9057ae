"""Tables of text, as Markdown and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
"""How LaTeX spells the characters that mean something to it."""

MARKDOWN = re.compile(r"[\\|<*`~$\[\]]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")
"""What means something to Markdown within a cell; an underscore does so only at an end of a word."""


@dataclass(frozen=True)
class Table:
    """Cells of text.

    Attributes:
        columns: their names.
        rows: as many cells each.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """For a README or an issue."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(map(_markdown_cell, line)) + " |" for line in lines)

    def latex(self) -> str:
        """A ``tabular`` that needs no package; its text is UTF-8."""
        lines = [" & ".join(map(_latex_cell, line)) + r" \\" for line in (self.columns, *self.rows)]
        begin = rf"\begin{{tabular}}{{{'l' * len(self.columns)}}}"
        return "\n".join([begin, lines[0], r"\hline", *lines[1:], r"\end{tabular}"])


def _markdown_cell(text: str) -> str:
    return MARKDOWN.sub(r"\\\g<0>", " ".join(text.split()))


def _latex_cell(text: str) -> str:
    cell = "".join(LATEX.get(character, character) for character in " ".join(text.split()))
    # The end of the line before, \\, would take a star or a bracket for its own.
    return "{}" + cell if cell.startswith(("[", "*")) else cell
