"""Questions about texts, in the format of SQuAD v1.1."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from ..errors import UserError
from .questions import with_tokenizer
from .settings import Fraction, Kind, Question, Questions
from .text import TokenizedSettings

Articles = list[list[Question]]


class SQuAD(TokenizedSettings):
    """SQuAD v1.1, or any file of its format: questions answered by a part of a text.

    A score is SQuAD's only if the held-out part is SQuAD's whole development set. XQuAD, for one, is a part of that.

    Attributes:
        path: JSON file to train on.
        evaluation_path: JSON file to evaluate on; without it, the last articles of ``path`` are held out.
        hub: hub id, such as ``rajpurkar/squad``, instead of files; its splits are ``train`` and ``validation``.
        evaluation_fraction: share of the articles that is held out.
    """

    paper = "Rajpurkar et al. 2016, SQuAD: 100,000+ Questions for Machine Comprehension of Text"
    kind: ClassVar[Kind] = "questions"

    name: Literal["squad"] = "squad"
    tokenizer: Literal["char", "bpe", "wordpiece", "pretrained"] = "wordpiece"
    path: str | None = None
    evaluation_path: str | None = None
    hub: str | None = None
    evaluation_fraction: Fraction = 0.1

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give either path or hub")
        if self.hub is not None and self.evaluation_path is not None:
            raise ValueError("evaluation_path goes with path, not with hub")
        return self

    def load(self, seed: int) -> Questions:
        """All questions, and a tokenizer trained on the texts and questions of the training part.

        Raises:
            UserError: a file is missing, not of the format, or an answer is not where it should be; the message is one
                line and names the file and the question.
        """
        return with_tokenizer(self, *self._parts(), str(self.path or self.hub))

    def _parts(self) -> tuple[list[Question], list[Question]]:
        from .squad_format import read_file, read_hub

        if self.hub is not None:
            return read_hub(self.hub, "train"), read_hub(self.hub, "validation")
        articles = read_file(str(self.path), "data.path")
        if self.evaluation_path is not None:
            return _flat(articles), _flat(read_file(self.evaluation_path, "data.evaluation_path"))
        cut = round(len(articles) * (1 - self.evaluation_fraction))
        if not 0 < cut < len(articles):
            raise UserError(f"data.evaluation_fraction: {self.path} has {len(articles)} articles; one part has none")
        return _flat(articles[:cut]), _flat(articles[cut:])


def _flat(articles: Articles) -> list[Question]:
    return [question for article in articles for question in article]
