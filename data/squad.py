"""Questions about texts in the format of SQuAD v1.1, each answer checked against its context."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from ..cache import content_digest, find
from ..errors import UserError
from .base import DataSettings, Fraction, Kind, Question, Questions
from .hf_text import rows
from .tokenization import Documents, TokenizerSettings, load_tokenizer, lone_surrogate, use_one_thread


class QuestionSettings(TokenizerSettings, DataSettings):
    """A source of questions, and one tokenizer for contexts and questions."""

    kind: ClassVar[Kind] = "questions"
    tokenizer: Literal["char", "bpe", "wordpiece", "pretrained"] = "wordpiece"

    def with_tokenizer(self, train: list[Question], evaluation: list[Question], source: str) -> Questions:
        """The questions with a tokenizer trained on the contexts and questions of the training part.

        Args:
            train: questions to train on.
            evaluation: questions held out.
            source: what an error message calls where they come from.
        """
        texts = list(dict.fromkeys(text for question in train for text in (question.context, question.question)))
        documents = Documents(f"the training part of {source}", content_digest(*texts), lambda: texts)
        tokenizer = load_tokenizer(self, documents)
        use_one_thread()
        return Questions(train, evaluation, tokenizer)


class SQuAD(QuestionSettings):
    """SQuAD v1.1, or any file of its format: questions answered by a part of a text.

    A score is SQuAD's only if the held-out part is SQuAD's complete development set. XQuAD, for one, is a part of that.

    Attributes:
        path: JSON file to train on.
        evaluation_path: JSON file to evaluate on; without it, the last articles of ``path`` are held out.
        hub: hub id, such as ``rajpurkar/squad``, instead of files; its splits are ``train`` and ``validation``.
        evaluation_fraction: share of the articles that is held out.
    """

    paper = "Rajpurkar et al. 2016, SQuAD: 100,000+ Questions for Machine Comprehension of Text"

    name: Literal["squad"] = "squad"
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
        return self.with_tokenizer(*self._parts(), str(self.path or self.hub))

    def _parts(self) -> tuple[list[Question], list[Question]]:
        if self.hub is not None:
            return read_hub(self.hub, "train"), read_hub(self.hub, "validation")
        articles = read_file(str(self.path), "data.path")
        if self.evaluation_path is not None:
            return _flat(articles), _flat(read_file(self.evaluation_path, "data.evaluation_path"))
        cut = round(len(articles) * (1 - self.evaluation_fraction))
        if not 0 < cut < len(articles):
            raise UserError(f"data.evaluation_fraction: {self.path} has {len(articles)} articles; one part has none")
        return _flat(articles[:cut]), _flat(articles[cut:])


def _flat(articles: list[list[Question]]) -> list[Question]:
    return [question for article in articles for question in article]


def read_file(path: str, key: str) -> list[list[Question]]:
    """The questions of each article of a JSON file.

    Args:
        path: the file.
        key: the config key that gave it, for error messages.

    Raises:
        UserError: the file is missing or not of the format, or an answer is not where it should be.
    """
    file = find(path, key)
    try:
        articles = json.loads(file.read_bytes())["data"]
        return [_article(article, f"{key}: {file}") for article in articles]
    except OSError as error:
        raise UserError(f"{key}: cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{key}: {file} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{key}: {file} is not JSON: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{key}: {file} is not in the format of SQuAD v1.1: {error!r}") from error


def read_hub(name: str, split: str) -> list[Question]:
    """The questions of one split of a hub's set.

    Raises:
        UserError: the set cannot be loaded or has other columns, or an answer is not where it should be.
    """
    where = f"data.hub: {name}"
    try:
        return [
            _question(row, row["context"], row["answers"]["text"], row["answers"]["answer_start"], where)
            for row in rows(name, "data.hub", split=split)
        ]
    except (KeyError, TypeError) as error:
        raise UserError(f"{where} is not in the format of SQuAD v1.1: {error!r}") from error


def _article(article: dict[str, Any], where: str) -> list[Question]:
    questions = []
    for paragraph in article["paragraphs"]:
        for entry in paragraph["qas"]:
            answers = entry.get("answers", []) if entry.get("is_impossible") else entry["answers"]
            texts = [answer["text"] for answer in answers]
            starts = [answer["answer_start"] for answer in answers]
            questions.append(_question(entry, paragraph["context"], texts, starts, where))
    return questions


def _question(entry: dict[str, Any], context: str, texts: list[str], starts: list[int], where: str) -> Question:
    name, question = str(entry["id"]), entry["question"]
    where = f"{where}: question {' '.join(name.split())[:60]}"
    for part, value in (("question", question), ("context", context)):
        if not isinstance(value, str):
            raise UserError(f"{where}: its {part} is {value!r:.60}, not a text")
        if damage := lone_surrogate(value):
            raise UserError(f"{where}: its {part} has {damage}")
    if entry.get("is_impossible"):
        raise UserError(f"{where} has is_impossible, as in SQuAD v2; leave out the questions that have no answer")
    if not texts:
        raise UserError(f"{where} has no answer, which only SQuAD v2 allows; leave such questions out")
    for text, start in zip(texts, starts, strict=True):
        if isinstance(text, str) and not text.strip():
            raise UserError(f"{where}: its answer {text!r:.60} is blank")
        if not isinstance(start, int) or start < 0 or context[start : start + len(text)] != text:
            raise UserError(f"{where}: {text!r:.60} is not at character {start!r:.60} of its context")
    return Question(name, context, question, tuple(texts), tuple(starts))
