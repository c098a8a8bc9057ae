"""A folder of images, sorted into one folder a class."""

from __future__ import annotations

from itertools import groupby, islice, zip_longest
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from ..errors import UserError
from .base import Examples, Images
from .images import AugmentedImageSettings, Channels, Deviation

if TYPE_CHECKING:
    from .image_examples import Preparation


class ImageFolder(AugmentedImageSettings):
    """Any tree of images with one folder a class, such as ImageNet's ``train/`` and ``val/``.

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
        from ..cache import find
        from .image_examples import Preparation

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
            self._examples(train, augmented), self._examples(evaluation, plain), tuple(classes), self.image_size
        )

    def _examples(self, files: list[tuple[str, int]], preparation: Preparation) -> Examples:
        import torch

        from .image_examples import ImageFiles

        examples = ImageFiles([file for file, _ in files], torch.tensor([label for _, label in files]), preparation)
        return examples.in_memory() if self.in_memory else examples


def _listing(folder: Path, key: str, limit: int | None) -> tuple[list[str], list[tuple[str, int]]]:
    """The classes, and every file with its label: the first file of each class, then the second of each, and so on.

    So the first few are of all classes, where an evaluation takes no more.
    """
    from torchvision.datasets import ImageFolder as Tree

    if not folder.is_dir():
        raise UserError(f"{key}: no folder {folder}")
    try:
        tree = Tree(str(folder))
    except FileNotFoundError as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{key}: {reason}") from error
    classes = (islice(samples, limit) for _, samples in groupby(tree.samples, key=itemgetter(1)))
    rows = zip_longest(*map(list, classes))
    return tree.classes, [sample for row in rows for sample in row if sample is not None]
