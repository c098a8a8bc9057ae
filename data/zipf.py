"""Random images whose classes are as unequal in frequency as words: Zipf's law with an exponent to turn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from ..errors import UserError
from ..seeds import derive_seed
from .base import Images
from .digest import settings_digest
from .images import ImageSettings, InMemoryImages, Preparation

if TYPE_CHECKING:
    import torch

LARGEST = 4.0
"""Standard deviations from the mean that are still told apart from each other in a pixel."""


class Zipf(ImageSettings):
    """Random patterns with noise, one per class; class k has a share of the examples proportional to k^-exponent.

    Nothing but the numbers of examples depends on the exponent: patterns and noises are the same numbers for every
    exponent. The number of examples of each class is exact, and label noise does not change it.

    Attributes:
        classes: how many.
        exponent: 0 makes all classes equal, 1 is Zipf's law for words.
        examples: to train on.
        evaluation_examples: held out.
        pixel_noise: standard deviation of the noise over that of the patterns.
        label_noise: share of the training examples whose labels are shuffled among each other.
        sample: which of all such data sets.
    """

    paper = "after Kunstner et al. 2024, Heavy-Tailed Class Imbalance and Why Adam Outperforms SGD, arXiv:2402.19449"

    name: Literal["zipf"] = "zipf"
    image_size: PositiveInt = 8
    classes: PositiveInt = 50
    exponent: Annotated[float, Field(ge=0)] = 1.0
    examples: PositiveInt = 2000
    evaluation_examples: PositiveInt = 1000
    pixel_noise: Annotated[float, Field(ge=0)] = 1.0
    label_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    sample: int = 0

    def load(self, seed: int) -> Images:
        """Both parts in memory; ``seed`` plays no part, ``sample`` does.

        Raises:
            UserError: there are too few examples for the rarest class to have one.
        """
        train = self._part("train", "examples", self.examples, self.label_noise)
        evaluation = self._part("evaluation", "evaluation_examples", self.evaluation_examples, 0.0)
        classes = tuple(f"rank {k + 1}" for k in range(self.classes))
        return Images(train, evaluation, classes, self.image_size, lambda: settings_digest(self))

    def _part(self, part: str, key: str, examples: int, label_noise: float) -> InMemoryImages:
        import torch

        counts = class_counts(self.classes, self.exponent, examples)
        if not counts[-1]:
            raise UserError(f"data.{key}: {examples} examples leave none for the rarest of the {self.classes} classes")
        size = (3, self.image_size, self.image_size)
        patterns = torch.randn(self.classes, *size, generator=self._generator("patterns"))
        noise = torch.randn(examples, *size, generator=self._generator(f"{part} noise"))
        labels = torch.arange(self.classes).repeat_interleave(torch.tensor(counts))
        values = (patterns[labels] + self.pixel_noise * noise) / math.hypot(1, self.pixel_noise)
        pixels = (255 * (values / LARGEST + 1) / 2).round().clamp(0, 255).to(torch.uint8)
        generator = self._generator(f"{part} labels")
        wrong = torch.randperm(examples, generator=generator)[: round(label_noise * examples)]
        labels[wrong] = labels[wrong[torch.randperm(len(wrong), generator=generator)]]
        order = torch.randperm(examples, generator=generator)
        preparation = Preparation(self.image_size, mean=(0.5,) * 3, std=(1 / (2 * LARGEST),) * 3)
        return InMemoryImages(pixels[order], labels[order], preparation)

    def _generator(self, axis: str) -> torch.Generator:
        import torch

        return torch.Generator().manual_seed(derive_seed(self.sample, f"zipf {axis}"))


def class_counts(classes: int, exponent: float, examples: int) -> list[int]:
    """How many examples each class has, the most frequent first.

    Each gets its share of Zipf's law rounded down, and the examples that are left go to the largest remainders.
    """
    weights = [(k + 1) ** -exponent for k in range(classes)]
    total = math.fsum(weights)
    shares = [examples * weight / total for weight in weights]
    counts = [math.floor(share) for share in shares]
    by_remainder = sorted(range(classes), key=lambda k: counts[k] - shares[k])
    for k in by_remainder[: examples - sum(counts)]:
        counts[k] += 1
    return counts


def frequency_groups(counts: list[int], groups: int) -> list[int]:
    """The group of each class: group 0 the most frequent classes, and about as many examples in each group.

    A class is in the group that holds its middle example, with all examples in order of class frequency and cut into
    equal parts. A class may be larger than a part; the groups are numbered without gaps.

    Args:
        counts: examples of each class, the most frequent first.
        groups: at most so many.
    """
    total, before, numbers = sum(counts), 0, []
    for count in counts:
        numbers.append(int(groups * (before + count / 2) / total))
        before += count
    known = sorted(set(numbers))
    return [known.index(number) for number in numbers]
