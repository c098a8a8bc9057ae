"""Finding the answer to a question in its context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from ..data.base import Questions
from ..models.base import Head
from .base import TaskSettings

if TYPE_CHECKING:
    from .base import Task


class QuestionAnswering(TaskSettings):
    """Cross-entropy of an answer's first and last token; scored by exact match and F1.

    A context that is too long for the model is cut into overlapping pieces, each of which is an example.

    Attributes:
        max_length: length in tokens of an example: question, piece of the context and special tokens.
        stride: number of tokens that neighbouring pieces share.
        max_answer_length: length in tokens of the longest answer that is considered in evaluation.
    """

    paper = "Rajpurkar et al. 2016, SQuAD; Devlin et al. 2019, BERT, section 4.2"
    kind = "questions"

    name: Literal["question_answering"] = "question_answering"
    max_length: int = Field(default=384, gt=0)
    stride: int = Field(default=128, ge=0)
    max_answer_length: int = Field(default=30, gt=0)

    @model_validator(mode="after")
    def _leave_room(self) -> QuestionAnswering:
        if self.stride >= self.max_length:
            raise ValueError(f"stride: {self.stride} must be below max_length, which is {self.max_length}")
        return self

    def bind(self, data: Questions, seed: int) -> Task:
        """The task over ``data``; nothing in it is drawn.

        Raises:
            ValueError: a question leaves too little room for its context.
        """
        from .span_extraction import ContextPieces, SpanTask

        train, evaluation = (
            ContextPieces(questions, data.tokenizer, self.max_length, self.stride)
            for questions in (data.train, data.evaluation)
        )
        head = Head("question_answering", data.tokenizer.vocab_size)
        return SpanTask(head, train, evaluation, self.max_answer_length)
