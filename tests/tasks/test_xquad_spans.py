"""Spans of the questions of XQuAD, where its file is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from whyadam.data import DATA
from whyadam.data.base import Question, Questions
from whyadam.tasks import TASKS
from whyadam.tasks.question_answering import SpanTask


@pytest.fixture
def questions(data_folder: Path) -> Questions:
    path = data_folder / "xquad.en.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    data = DATA["squad"].model_validate({"path": str(path)}).load(seed=0)
    assert isinstance(data, Questions)
    return data


def ends_within_a_word(question: Question) -> bool:
    """Whether the people who marked the answer stopped in the middle of a word or number."""
    end = question.answer_starts[0] + len(question.answers[0])
    return question.context[end - 1].isalnum() and question.context[end : end + 1].isalnum()


@pytest.mark.parametrize(("max_length", "stride"), [(384, 128), (192, 64)])
def test_every_answer_is_found_in_its_labels(questions: Questions, max_length: int, stride: int) -> None:
    """Catches what hand-made contexts lack: accents, unknown characters, quotation marks, answers across chunks."""
    settings = TASKS["question_answering"].model_validate({"max_length": max_length, "stride": stride})
    task = settings.bind(questions, seed=0)
    assert isinstance(task, SpanTask)
    for examples, asked in ((task.train, questions.train), (task.evaluation, questions.evaluation)):
        found = set()
        for index, chunk in enumerate(examples.chunks):
            assert len(chunk.input_ids) <= max_length
            if chunk.answer != (0, 0):
                found.add(chunk.question)
                text, answer = examples.text(index, *chunk.answer), asked[chunk.question].answers[0]
                assert text == answer or (text.startswith(answer) and ends_within_a_word(asked[chunk.question]))
        assert found == set(range(len(asked)))
