"""Reading questions in the format of SQuAD v1.1, and holding every answer against its context."""

from __future__ import annotations

import json
from typing import Any

from ..errors import UserError
from .hub import rows
from .paths import find
from .settings import Question


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
            texts = [answer["text"] for answer in entry["answers"]]
            starts = [answer["answer_start"] for answer in entry["answers"]]
            questions.append(_question(entry, paragraph["context"], texts, starts, where))
    return questions


def _question(entry: dict[str, Any], context: str, texts: list[str], starts: list[int], where: str) -> Question:
    name, question = str(entry["id"]), entry["question"]
    where = f"{where}: question {' '.join(name.split())[:60]}"
    if not isinstance(question, str):
        raise UserError(f"{where} is {question!r:.60}, not a text")
    if not texts:
        raise UserError(f"{where} has no answer")
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(start, int) or start < 0 or not text or context[start : start + len(text)] != text:
            raise UserError(f"{where}: {text!r:.60} is not at character {start!r:.60} of its context")
    return Question(name, context, question, tuple(texts), tuple(starts))
