"""All data sources by name."""

from __future__ import annotations

from ..registry import Registry
from .cifar10 import CIFAR10
from .fashion_mnist import FashionMNIST
from .hf_text import HFText
from .image_folder import ImageFolder
from .kjv import KJV
from .kjv_questions import KJVQuestions
from .mnist5k import MNIST5k
from .quadratic import Quadratic
from .settings import CustomData, DataSettings
from .squad import SQuAD
from .text_file import TextFile
from .zipf import Zipf

DATA: Registry[DataSettings] = Registry(
    "data",
    [KJV, TextFile, HFText, MNIST5k, CIFAR10, FashionMNIST, ImageFolder, KJVQuestions, SQuAD, Zipf, Quadratic],
    custom=CustomData,
)
