"""Where relative data paths are looked up: below ``$WHYADAM_DATA``, then below the working folder."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UserError


def candidates(path: str | Path) -> list[Path]:
    """The places where ``path`` may lie, in the order in which they are tried."""
    path = Path(path).expanduser()
    if path.is_absolute():
        return [path]
    folders = [Path(os.environ["WHYADAM_DATA"]).expanduser()] if os.environ.get("WHYADAM_DATA") else []
    return [folder / path for folder in [*folders, Path.cwd()]]


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
    if path.startswith((".", "/", "~")):
        return find(path, key)
    return next((place for place in candidates(path) if place.is_dir()), None)
