"""Finished work on the disk, so that an interrupted measurement goes on where it was."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import torch

from .spectrum import Spectrum


class KeptSpectra(MutableMapping[str, Spectrum]):
    """Spectra in a folder, one file a name; each is replaced as a whole, and several processes may share the folder.

    Args:
        folder: made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __setitem__(self, name: str, spectrum: Spectrum) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(name)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.savez(file, nodes=spectrum.nodes, weights=spectrum.weights, size=spectrum.size or 0)
        os.replace(temporary, path)

    def __getitem__(self, name: str) -> Spectrum:
        try:
            with np.load(self._path(name)) as file:
                return Spectrum(torch.tensor(file["nodes"]), torch.tensor(file["weights"]), int(file["size"]) or None)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            # What cannot be read is measured again.
            raise KeyError(name) from None

    def __delitem__(self, name: str) -> None:
        self._path(name).unlink()

    def __iter__(self) -> Iterator[str]:
        return (unquote(path.stem) for path in sorted(self._folder.glob("*.npz")))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _path(self, name: str) -> Path:
        return self._folder / f"{quote(name, safe='')}.npz"
