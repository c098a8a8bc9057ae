"""Files on the user's disk: the cache, and the lookup of data paths.

Cached files are made once and named by what they were made from. Relative data paths are looked up below
``$WHYADAM_DATA``, then below the working folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import platformdirs
from filelock import FileLock

from .errors import UserError

CHECKED_BYTES = 2**26
"""How much of a cached file is compared with what was written: reading hundreds of gigabytes would take minutes."""


def cache_folder() -> Path:
    """``$WHYADAM_CACHE``, or the folder that the operating system has for caches."""
    return expanded(os.environ.get("WHYADAM_CACHE") or platformdirs.user_cache_dir("whyadam"))


def content_digest(*parts: str) -> str:
    """32 hexadecimal digits that stand for ``parts`` and their order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(hashlib.blake2b(part.encode("utf-8", "surrogatepass"), digest_size=16).digest())
    return digest.hexdigest()


def cached_file(name: str, build: Callable[[Path], None]) -> Path:
    """A file of the cache folder, built if it is not there or is not what was written.

    The file appears under its name when it is complete. Two processes that need it at once build it once.

    Args:
        name: path below the cache folder; it must change whenever the content would.
        build: writes the content to the path it is given.

    Raises:
        UserError: the cache folder cannot be written to.
    """
    path = cache_folder() / name
    if _is_intact(path):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not _is_intact(path):
                _build(path, build)
    except OSError as error:
        raise UserError(f"WHYADAM_CACHE: cannot write to the cache folder {cache_folder()}: {error}") from error
    return path


def _build(path: Path, build: Callable[[Path], None]) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        build(unfinished)
        fingerprint = _fingerprint(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    _seal_of(path).write_text(fingerprint)


def _is_intact(path: Path) -> bool:
    seal = _seal_of(path)
    return path.is_file() and seal.is_file() and seal.read_text() == _fingerprint(path)


def _seal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.seal")


def _fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        start = hashlib.blake2b(file.read(CHECKED_BYTES), digest_size=16).hexdigest()
    return f"{path.stat().st_size} {start}"


PACKAGE = "package:"
"""``package:NAME/PATH`` is a path in the folder of the installed package NAME."""


def candidates(path: str | Path) -> list[Path]:
    """The places where ``path`` may lie, in the order in which they are tried.

    Raises:
        UserError: it begins with ``package:`` and there is no such package.
    """
    if str(path).startswith(PACKAGE):
        name, _, below = str(path).removeprefix(PACKAGE).partition("/")
        return [package_folder(name) / below]
    path = expanded(path)
    if path.is_absolute():
        return [path]
    folders = [expanded(os.environ["WHYADAM_DATA"])] if os.environ.get("WHYADAM_DATA") else []
    return [folder / path for folder in [*folders, Path.cwd()]]


def package_folder(name: str) -> Path:
    """The folder of an installed package, none of whose code is run.

    Raises:
        UserError: there is no package of that name.
    """
    # A spec of a top-level name is found without importing anything.
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{PACKAGE}{name}: there is no installed package of that name")
    return Path(spec.submodule_search_locations[0])


def expanded(path: str | Path) -> Path:
    """The path with the home folder in place of ``~``.

    Raises:
        UserError: there is no such user, or no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such user, or no home folder; write the folder out") from None


def find(path: str | Path, key: str) -> Path:
    """The first place where ``path`` exists.

    Args:
        path: a file or folder.
        key: the config key that gave it, for the error message.

    Raises:
        UserError: it exists nowhere; the message names the key and every place.
    """
    places = candidates(path)
    for place in places:
        if place.exists():
            return place
    raise UserError(f"{key}: no file or folder at {' or '.join(map(str, places))}")


def local_folder(path: str, key: str) -> Path | None:
    """The folder that ``path`` is; None for a hub id.

    Raises:
        UserError: ``path`` is written like a folder, and there is none.
    """
    if path.startswith((".", "/", "~", PACKAGE)):
        return find(path, key)
    return next((place for place in candidates(path) if place.is_dir()), None)
