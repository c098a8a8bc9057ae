"""Data sources: one file per source, and the table of their names."""

from __future__ import annotations

from ..settings import Registry
from .base import CustomData, DataSettings, Images, NoisyQuadratic, Question, Questions, Text
from .hf_text import HFText
from .image_folder import ImageFolder
from .kjv_questions import KJVQuestions
from .mnist5k import MNIST5k
from .quadratic import Quadratic
from .squad import SQuAD
from .text import KJV, SOTU, TextFile, WikiLeads
from .torchvision_sets import CIFAR10, FashionMNIST
from .zipf import Zipf

__all__ = ["DATA", "DataSettings", "Images", "NoisyQuadratic", "Question", "Questions", "Text"]

DATA: Registry[DataSettings] = Registry(
    "data",
    [
        KJV,
        SOTU,
        WikiLeads,
        TextFile,
        HFText,
        MNIST5k,
        CIFAR10,
        FashionMNIST,
        ImageFolder,
        KJVQuestions,
        SQuAD,
        Zipf,
        Quadratic,
    ],
    custom=CustomData,
)
