"""Reading and writing files in folders that others may have filled: links are not followed, pipes not waited for."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

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
