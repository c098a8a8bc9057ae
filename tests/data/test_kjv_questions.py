"""Cloze questions made from the embedded text."""

from __future__ import annotations

import re

import pytest
from whyadam.data.base import Question, Questions
from whyadam.data.kjv_questions import BLANK, LONGEST, KJVQuestions


@pytest.fixture(scope="module")
def questions() -> Questions:
    return KJVQuestions(questions=300, evaluation_questions=100, vocab_size=400).load(0)


def test_every_answer_is_where_it_should_be(questions: Questions) -> None:
    """An offset that counts sentences wrongly would train on random spans."""
    for question in (*questions.train, *questions.evaluation):
        (answer,), (start,) = question.answers, question.answer_starts
        assert question.context[start : start + len(answer)] == answer
        assert any(filled in question.context for filled in _filled(question, answer))
        assert len(question.context) <= LONGEST


def test_parts_are_as_large_as_asked_and_have_nothing_in_common(questions: Questions) -> None:
    """A question in both parts would be answered by heart."""
    assert (len(questions.train), len(questions.evaluation)) == (300, 100)
    assert not {question.context for question in questions.train} & {item.context for item in questions.evaluation}
    assert len({question.id for question in questions.train}) == 300


def test_questions_are_not_in_their_contexts(questions: Questions) -> None:
    """A name left in its place would make the question answer itself."""
    assert not [question for question in questions.train if question.question in question.context]


def _filled(question: Question, answer: str) -> list[str]:
    """The question with the answer in place of each blank in turn; the word of the blank is also a word of the text."""
    text = question.question
    places = [found.start() for found in re.finditer(rf"\b{BLANK}\b", text)]
    return [text[:place] + answer + text[place + len(BLANK) :] for place in places]
