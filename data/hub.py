"""Rows of a set of the Hugging Face hub, or of a local folder, through the `datasets` library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import UserError
from .paths import local_folder


def rows(
    path: str, key: str, *, split: str, name: str | None = None, revision: str | None = None, streaming: bool = False
) -> Iterator[dict[str, Any]]:
    """The rows of ``datasets.load_dataset(path, name, split=split)``.

    Args:
        path: hub id or local folder.
        key: the config key that gave ``path``, for error messages.
        split: name of the split.
        name: the set's configuration.
        revision: commit of the hub's set.
        streaming: give rows while they arrive.

    Raises:
        UserError: `datasets` is not installed, or cannot load that; the message is one line.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{key}: {path} needs the package datasets: pip install datasets") from error
    source = str(local_folder(path, key) or path)
    try:
        yield from datasets.load_dataset(source, name=name, split=split, revision=revision, streaming=streaming)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{key}: cannot load {path}, split {split}: {reason}") from error
