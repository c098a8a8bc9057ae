"""Reading the pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

FENCED = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that its title names, its text."""

    language: str
    title: str | None
    text: str

    def commands(self) -> list[str]:
        """The lines of a shell block, joined where they end in a backslash."""
        return [line.strip() for line in self.text.replace("\\\n", " ").splitlines()]


@pytest.fixture(scope="session")
def blocks() -> Callable[[Path], list[Block]]:
    """All fenced blocks of a page in order."""
    return lambda page: [Block(*match.groups()) for match in FENCED.finditer(page.read_text())]
