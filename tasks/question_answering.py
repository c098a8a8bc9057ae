"""Extractive question answering: the first and the last token of an answer (Devlin et al. 2019, section 4.2).

A context that is too long for the model is cut into overlapping chunks, with the position of the answer in each.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field, model_validator

from ..data.base import Key, Question, Questions
from ..data.tokenization import warn_of_unknown
from ..models.base import Head
from .base import Batch, Scores, Task, TaskSettings, forward
from .cross_entropy import summed_cross_entropy, widened

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..data.tokenization import Tokenizer


class QuestionAnswering(TaskSettings):
    """Cross-entropy of an answer's first and last token; scored by exact match and F1.

    A context that is too long for the model is cut into overlapping chunks, each of which is an example.

    Attributes:
        max_length: length in tokens of an example: question, chunk of the context and special tokens.
        stride: number of tokens that neighbouring chunks share.
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

    def bind(self, data: Questions, seed: int) -> SpanTask:
        """The task over ``data``; nothing in it is drawn.

        Raises:
            ValueError: a question leaves too little room for its context.
        """
        train, evaluation = (
            ContextChunks(questions, data.tokenizer, self.max_length, self.stride)
            for questions in (data.train, data.evaluation)
        )
        for name, chunks in (("training", train.chunks), ("evaluation", evaluation.chunks)):
            unknown = sum(int((chunk.input_ids == data.tokenizer.unknown_id).sum()) for chunk in chunks)
            tokens = sum(len(chunk.input_ids) for chunk in chunks)
            warn_of_unknown(unknown, tokens, f"the {name} part's questions and contexts")
        head = Head("question_answering", data.tokenizer.vocab_size)
        return SpanTask(head, train, evaluation, self.max_answer_length)


class SpanTask(Task):
    """One span per chunk of a context; the answer to a question is the best span over all its chunks."""

    train: ContextChunks
    evaluation: ContextChunks

    def __init__(self, head: Head, train: ContextChunks, evaluation: ContextChunks, max_answer_length: int) -> None:
        super().__init__(head, train, evaluation)
        self.max_answer_length = max_answer_length

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean of the cross-entropies of the first and the last token, summed over chunks, and their number."""
        return _loss_of(*_logits(model, batch), batch), self.count(batch)

    def tokens(self, batch: Batch) -> int:
        """The number of tokens without padding."""
        return int(batch["attention_mask"].sum())

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> Scores:
        """Mean loss of the chunks; exact match and F1 of the best answers against all accepted ones.

        Only questions of which all chunks are there are scored: a limit may end between two chunks of a question.
        """
        import torch

        losses, spans = [], []
        with torch.no_grad():
            for batch in batches:
                start_logits, end_logits = _logits(model, batch)
                losses.append(_loss_of(start_logits, end_logits, batch))
                best = best_spans(start_logits, end_logits, batch["context_mask"], self.max_answer_length)
                spans.append((batch["chunk"], *best))
        if not spans:
            raise ValueError("evaluation: there is no question to score")
        chunks, scores, starts, ends = (torch.cat(column).tolist() for column in zip(*spans, strict=True))

        answers: dict[int, tuple[float, str]] = {}
        for chunk, score, start, end in zip(chunks, scores, starts, ends, strict=True):
            question = self.evaluation.chunks[chunk].question
            if question not in answers or score > answers[question][0]:
                answers[question] = score, self.evaluation.text(chunk, start, end)
        missing = {chunk.question for chunk in self.evaluation.chunks[max(chunks) + 1 :]}
        complete = {question: text for question, (_, text) in answers.items() if question not in missing}
        exact_match, f1 = self._compare(complete) if complete else (None, None)
        return Scores(sum(torch.stack(losses).tolist()) / len(chunks), exact_match=exact_match, f1=f1)

    def _compare(self, answers: dict[int, str]) -> tuple[float, float]:
        """Exact match and F1, in [0, 1], of the answers given to questions, by index."""
        from torchmetrics.functional.text import squad

        given, accepted = [], []
        for index, text in answers.items():
            question = self.evaluation.questions[index]
            given.append({"id": str(index), "prediction_text": text})
            known = {"text": list(question.answers), "answer_start": list(question.answer_starts)}
            accepted.append({"id": str(index), "answers": known})
        percent = squad(given, accepted)
        return float(percent["exact_match"]) / 100, float(percent["f1"]) / 100


class ContextChunks:
    """Examples for span extraction, one per chunk, in the order of the questions.

    The answer that is learned is a question's first.

    Args:
        questions: what is asked, of what context.
        tokenizer: turns question and context into ids.
        max_length: length of a chunk in tokens, with question and special tokens.
        stride: number of context tokens that neighbouring chunks share.

    Raises:
        ValueError: a question leaves too little room for its context.
    """

    def __init__(self, questions: Sequence[Question], tokenizer: Tokenizer, max_length: int, stride: int) -> None:
        self.questions = questions
        self.chunks = list(cut_contexts(questions, tokenizer, max_length, stride))
        self._pad_id = tokenizer.pad_id

    def __len__(self) -> int:
        return len(self.chunks)

    def batch(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """The chunks of ``keys``, padded to the longest of them.

        Returns:
            ``input_ids``, ``attention_mask`` and ``token_type_ids``, which is 1 from the context on (int64
            ``[len(keys), tokens]``); ``context_mask``, true on the context's tokens (bool, the same shape);
            ``start_positions``, ``end_positions`` and ``chunk``, the index of each (int64 ``[len(keys)]``).
        """
        import torch
        from torch.nn.utils.rnn import pad_sequence

        chunks = [self.chunks[index] for _, index in keys]
        input_ids = pad_sequence([chunk.input_ids for chunk in chunks], batch_first=True, padding_value=self._pad_id)
        positions = torch.arange(input_ids.shape[1])
        context_start = torch.tensor([chunk.context_start for chunk in chunks])[:, None]
        length = torch.tensor([len(chunk.input_ids) for chunk in chunks])[:, None]
        return {
            "input_ids": input_ids.long(),
            "attention_mask": (positions < length).long(),
            "token_type_ids": ((positions >= context_start) & (positions < length)).long(),
            "context_mask": (positions >= context_start) & (positions < length - 1),
            "start_positions": torch.tensor([chunk.answer[0] for chunk in chunks]),
            "end_positions": torch.tensor([chunk.answer[1] for chunk in chunks]),
            "chunk": torch.tensor([index for _, index in keys]),
        }

    def text(self, index: int, start: int, end: int) -> str:
        """The part of the context from position ``start`` to position ``end`` of a chunk, both included.

        Empty where the positions are not in the context: logits that are not finite can point anywhere.
        """
        chunk = self.chunks[index]
        first, last = start - chunk.context_start, end - chunk.context_start
        if not 0 <= first <= last < len(chunk.offsets):
            return ""
        characters = slice(int(chunk.offsets[first, 0]), int(chunk.offsets[last, 1]))
        # A token of a byte-level tokenizer begins with the space before its word.
        return self.questions[chunk.question].context[characters].strip()


class Chunk(NamedTuple):
    """``[CLS]`` question ``[SEP]`` chunk of the context ``[SEP]``.

    Attributes:
        question: index of the question.
        input_ids: int32 ``[tokens]``.
        context_start: position of the first token of the context.
        offsets: int32 ``[context tokens, 2]``, the characters [start, end) of the context that each token stands for.
        answer: positions of the answer's first and last token; (0, 0), which is ``[CLS]``, if not all of it is here.
    """

    question: int
    input_ids: Tensor
    context_start: int
    offsets: Tensor
    answer: tuple[int, int]


def cut_contexts(questions: Sequence[Question], tokenizer: Tokenizer, max_length: int, stride: int) -> Iterator[Chunk]:
    """The chunks of all questions; the arguments are those of ``ContextChunks``."""
    import torch

    separator = torch.tensor([tokenizer.separator_id], dtype=torch.int32)
    # Questions about one context follow each other in SQuAD: each context is encoded once.
    for context, group in groupby(enumerate(questions), key=lambda numbered: numbered[1].context):
        ids, characters = tokenizer.encode_with_offsets(context)
        context_ids = torch.tensor(ids, dtype=torch.int32)
        offsets = torch.tensor(characters, dtype=torch.int32).reshape(-1, 2)
        for number, question in group:
            asked = [tokenizer.classification_id, *tokenizer.encode(question.question), tokenizer.separator_id]
            context_start = len(asked)
            room = max_length - context_start - len(separator)
            if room <= stride:
                raise ValueError(
                    f"task.max_length: {max_length} is too short for question {question.id}; with a stride of {stride} "
                    f"it needs at least {max_length - room + stride + 1}"
                )
            first, last = _find_answer(characters, question)
            for begin in range(0, max(len(ids) - stride, 1), room - stride):
                end = begin + room
                input_ids = torch.cat([torch.tensor(asked, dtype=torch.int32), context_ids[begin:end], separator])
                answer = (0, 0)
                if begin <= first <= last < end:
                    answer = (context_start + first - begin, context_start + last - begin)
                yield Chunk(number, input_ids, context_start, offsets[begin:end], answer)


def _find_answer(offsets: Sequence[tuple[int, int]], question: Question) -> tuple[int, int]:
    """The first and the last token of the context that overlap the question's first answer."""
    answer_start = question.answer_starts[0]
    answer_end = answer_start + len(question.answers[0])
    first = bisect_right(offsets, answer_start, key=lambda token: token[1])
    last = bisect_left(offsets, answer_end, key=lambda token: token[0]) - 1
    return first, last


def best_spans(
    start_logits: Tensor, end_logits: Tensor, context_mask: Tensor, max_answer_length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The span with the highest sum of start and end logit in each chunk, among those that lie in the context.

    Args:
        start_logits: ``[chunks, tokens]``.
        end_logits: ``[chunks, tokens]``.
        context_mask: bool ``[chunks, tokens]``, true on the context.
        max_answer_length: the longest span in tokens.

    Returns:
        The sums, the first positions and the last positions, each ``[chunks]``.
    """
    import torch

    starts = start_logits.masked_fill(~context_mask, -torch.inf)
    ends = end_logits.masked_fill(~context_mask, -torch.inf)
    ends = torch.nn.functional.pad(ends, (0, max_answer_length - 1), value=-torch.inf)
    # sums[chunk, i, j] is the score of the span from token i to token i + j.
    sums = starts.unsqueeze(2) + ends.unfold(1, max_answer_length, 1)
    score, place = sums.flatten(start_dim=1).max(dim=1)
    start = place // max_answer_length
    return score, start, start + place % max_answer_length


def _logits(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Start and end logits; no answer lies on padding, so a chunk's loss does not depend on how far it is padded."""
    import torch

    output = forward(model, batch)
    padding = batch["attention_mask"] == 0
    start_logits, end_logits = widened(output.start_logits), widened(output.end_logits)
    lowest = torch.finfo(start_logits.dtype).min
    return start_logits.masked_fill(padding, lowest), end_logits.masked_fill(padding, lowest)


def _loss_of(start_logits: Tensor, end_logits: Tensor, batch: Batch) -> Tensor:
    start = summed_cross_entropy(start_logits, batch["start_positions"])
    end = summed_cross_entropy(end_logits, batch["end_positions"])
    return (start + end) / 2
