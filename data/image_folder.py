"""A folder of images, sorted into one folder per class."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt

from ..cache import content_digest, find
from ..errors import UserError
from .base import Examples, Images
from .digest import files_digest
from .images import AugmentedImageSettings, Channels, Deviation, ImageFiles, Preparation

NO_DATA = ("Thumbs.db", "desktop.ini")
"""Files that systems leave in folders of images."""


class ImageFolder(AugmentedImageSettings):
    """Any tree of images with one folder per class, such as ImageNet's ``train/`` and ``val/``.

    Attributes:
        path: the folder that holds the next two.
        train_folder: classes to train on.
        evaluation_folder: the same classes, held out.
        limit: use no more than that many images of each class, the first by name.
        in_memory: decode all images once, at ``image_size``, instead of each time one is needed.
        mean: subtracted from each channel, in [0, 1]; ImageNet's by default.
        std: each channel is divided by it; ImageNet's by default.
    """

    paper = "ImageNet: Deng et al. 2009; any other tree of this form"

    name: Literal["image_folder"] = "image_folder"
    path: str
    train_folder: str = "train"
    evaluation_folder: str = "val"
    image_size: PositiveInt = 224
    limit: PositiveInt | None = None
    in_memory: bool = False
    mean: Channels = (0.485, 0.456, 0.406)
    std: tuple[Deviation, Deviation, Deviation] = (0.229, 0.224, 0.225)

    def load(self, seed: int) -> Images:
        """List both folders, and decode them if they are to be kept in memory.

        Raises:
            UserError: a folder is missing, has no images or other classes than the other; the message is one line.
        """
        folder = find(self.path, "data.path")
        train_folder, evaluation_folder = folder / self.train_folder, folder / self.evaluation_folder
        classes, train = _listing(train_folder, "data.train_folder", self.limit)
        held_out_classes, evaluation = _listing(evaluation_folder, "data.evaluation_folder", self.limit)
        if classes != held_out_classes:
            differing = min(set(classes) ^ set(held_out_classes))
            raise UserError(
                f"data.evaluation_folder: {differing} is not in both {train_folder} and {evaluation_folder}"
            )
        plain = Preparation(self.image_size, self.mean, self.std)
        augmented = Preparation(self.image_size, self.mean, self.std, self.augment, seed)
        return Images(
            self._examples(train, augmented),
            self._examples(evaluation, plain),
            tuple(classes),
            self.image_size,
            lambda: content_digest(files_digest(train_folder, train), files_digest(evaluation_folder, evaluation)),
        )

    def _examples(self, files: list[tuple[str, int]], preparation: Preparation) -> Examples:
        import torch

        examples = ImageFiles([file for file, _ in files], torch.tensor([label for _, label in files]), preparation)
        return examples.in_memory() if self.in_memory else examples


def _listing(folder: Path, key: str, limit: int | None) -> tuple[list[str], list[tuple[str, int]]]:
    """The classes, and every file with its label: the first file of each class, then the second of each, and so on.

    So an evaluation of the first few sees all classes. Classes and the order of files are torchvision's. What its
    ``ImageFolder`` leaves out by the name is told, and no link makes an image count twice.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS

    if not folder.is_dir():
        raise UserError(f"{key}: no folder {folder}")
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not classes:
        raise UserError(f"{key}: no folder of a class in {folder}")
    images, others, links = [], Counter[str](), 0
    for name in classes:
        found, left_out = _files(folder / name, os.path.realpath(folder))
        links += left_out
        images.append([file for file in found if file.lower().endswith(IMG_EXTENSIONS)])
        rest = (Path(file) for file in found if not file.lower().endswith(IMG_EXTENSIONS))
        others.update(file.suffix or file.name for file in rest if file.name not in NO_DATA and file.name[0] != ".")
    if empty := [name for name, files in zip(classes, images, strict=True) if not files]:
        known = ", ".join(IMG_EXTENSIONS)
        raise UserError(f"{key}: found no image for the classes {', '.join(empty)} in {folder}; images are {known}")
    if others:
        counts = ", ".join(f"{count} of {suffix}" for suffix, count in others.most_common(5))
        warnings.warn(f"{key}: left out in {folder}, no images by their names: {counts}", stacklevel=2)
    if links:
        told = f"{key}: {links} links in {folder} lead to its own images, or twice to the same; they are left out"
        warnings.warn(told, stacklevel=2)
    labelled = ([(file, label) for file in files[:limit]] for label, files in enumerate(images))
    return classes, [row for rows in zip_longest(*labelled) for row in rows if row is not None]


def _files(folder: Path, tree: str) -> tuple[list[str], int]:
    """All files of a class, and the number of links that are left out.

    Args:
        folder: of the class.
        tree: the real path of the folder of all classes. A link to what lies in it, or to a folder around it, is not
            followed: its images count where they lie.
    """
    found: list[tuple[str, list[str]]] = []
    seen: set[str] = set()
    left_out = 0

    def counts(path: str) -> bool:
        """Whether a link is followed, or a folder entered."""
        real = os.path.realpath(path)
        overlaps = os.path.commonpath([real, tree]) in (real, tree)
        if real in seen or (overlaps and os.path.islink(path)):
            return False
        seen.add(real)
        return True

    if not counts(str(folder)):
        return [], 1
    for root, folders, names in os.walk(folder, followlinks=True):
        kept = [name for name in folders if counts(os.path.join(root, name))]
        files = [
            path for path in (os.path.join(root, name) for name in names) if not os.path.islink(path) or counts(path)
        ]
        left_out += len(folders) - len(kept) + len(names) - len(files)
        folders[:] = kept
        found.append((root, sorted(files)))
    return [file for _, files in sorted(found) for file in files], left_out
