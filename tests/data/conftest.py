"""What the tests of the data sources share."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("WHYADAM_CACHE", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which relative data paths are looked up."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("WHYADAM_DATA", str(folder))
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to reach another machine fails the test."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def book() -> str:
    """A text of 300 lines and about 15,000 characters, some lines empty."""
    draw = random.Random(0)
    words = "the Lord said unto Moses, speak; and all Israel\u2019s people went forth (every man) in haste: amen."
    lines = [" ".join(draw.choices(words.split(), k=draw.randint(0, 20))) for _ in range(300)]
    return "\n".join(lines) + "\n"
