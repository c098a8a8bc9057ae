"""Reading and writing files: complete or not at all, links not followed, pipes not waited for; rows as CSV."""

from __future__ import annotations

import csv
import errno
import io
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

# Missing on Windows.
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)


@contextmanager
def replacing(path: Path, *, temporary: str | None = None, sync: bool = False) -> Iterator[IO[bytes]]:
    """A file to write, which replaces ``path`` when the context ends without an error.

    Args:
        path: what is replaced; a link is replaced itself, not what it points to.
        temporary: name of the file beside it that is written first, ``path``'s with ``.tmp`` by default. Whatever has
            that name is removed first; what a link of that name points to is left alone.
        sync: whether to write through to the disk, so that a power failure leaves the old file or the new one.

    Raises:
        OSError: the file cannot be written.
    """
    unfinished = path.with_name(temporary or f"{path.name}.tmp")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _BINARY, 0o666)
    with open(descriptor, "wb") as file:
        yield file
        file.flush()
        if sync:
            os.fsync(file.fileno())
    os.replace(unfinished, path)


def replace_text(path: Path, text: str, *, sync: bool = False) -> None:
    """Replace a file by a text in UTF-8, as ``replacing`` does."""
    with replacing(path, sync=sync) as file:
        file.write(text.encode("utf-8"))


def open_to_read(path: Path, *, follow: bool = True) -> IO[bytes]:
    """A regular file, opened to read; a link to one only if ``follow``.

    Raises:
        OSError: it is missing, or a folder, pipe, socket or device.
    """
    return _open_regular(path, os.O_RDONLY | (0 if follow else _NOFOLLOW), "rb")


def open_to_append(path: Path) -> IO[bytes]:
    """A regular file that exists, opened to append.

    Raises:
        OSError: it is missing, a link, or not a regular file.
    """
    return _open_regular(path, os.O_WRONLY | os.O_APPEND | _NOFOLLOW, "ab")


def is_same_file(file: IO[bytes], path: Path) -> bool:
    """Whether an open file still is the one at ``path``."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    own = os.fstat(file.fileno())
    return (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)


def _open_regular(path: Path, flags: int, mode: str) -> IO[bytes]:
    descriptor = os.open(path, flags | _NONBLOCK | _BINARY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, mode)


Row = dict[str, Any]
"""Numbers and text by column."""


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Write rows as CSV, completely or not at all; None is an empty field.

    Args:
        path: the file; its folder is made.
        rows: all with the same columns.
        columns: their order, and the heading of a file without rows; by default that of the first row.

    Raises:
        ValueError: a row has another column, or there are neither rows nor columns.
    """
    rows = list(rows)
    if columns is None and not rows:
        raise ValueError(f"{path}: needs at least one row, or the names of the columns")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_text(path, text.getvalue())


def read_csv(path: Path) -> list[Row]:
    """The rows of a CSV file; numbers, True and False are read as such, and an empty field is None."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{column: _value(text) for column, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False, "": None}.get(text, text)
