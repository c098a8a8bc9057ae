"""Checkpoints that are either whole or not there."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

LAST_TO_KEEP = 2


class Checkpoints:
    """The ``checkpoints/`` of a run folder.

    Args:
        folder: where they lie, as ``step_000100.pt``.
        keep: steps whose checkpoint stays; of the others the last two stay.
    """

    def __init__(self, folder: Path, keep: Collection[int] = ()) -> None:
        self.folder = folder
        self.keep = frozenset(keep)

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"step_{step:06d}.pt"

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order."""
        found = (re.fullmatch(r"step_(\d+)\.pt", path.name) for path in self.folder.glob("step_*.pt"))
        return sorted(int(match[1]) for match in found if match)

    def save(self, step: int, content: dict[str, Any]) -> None:
        """Write a checkpoint to a temporary name, through to the disk, rename it, and drop those no longer due."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / "unfinished.tmp"
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path(step))
        _sync_folder(self.folder)
        self.drop_old()

    def drop_old(self) -> None:
        """Remove the checkpoints that are no longer due."""
        for old in self.steps()[:-LAST_TO_KEEP]:
            if old not in self.keep:
                self.path(old).unlink()

    def load_last(
        self, device: torch.device, check: Callable[[dict[str, Any]], None] = lambda content: None
    ) -> tuple[dict[str, Any] | None, list[str]]:
        """The last checkpoint that is whole, or None, and one line on each that was passed over.

        Args:
            device: where its tensors go.
            check: raises ValueError for a checkpoint that cannot be gone on from.
        """
        complaints: list[str] = []
        for step in reversed(self.steps()):
            try:
                content = load_checkpoint(self.path(step), device)
                check(content)
                return content, complaints
            except ValueError as error:
                complaints.append(str(error))
        return None, complaints


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read one checkpoint; nothing in it is executed.

    Raises:
        ValueError: the file is missing, damaged, or holds something other than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"checksum of {damaged} is wrong")
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch, pickle and zipfile raise a dozen kinds for a damaged file
        raise ValueError(f"{path}: no whole checkpoint: {' '.join(str(error).split())[:160]}") from error
    if not isinstance(content, dict) or "step" not in content:
        raise ValueError(f"{path}: no checkpoint of a training run")
    return content


def _sync_folder(folder: Path) -> None:
    # On some systems a folder cannot be opened; there the rename is left to the file system.
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
