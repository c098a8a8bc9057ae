"""Contexts of questions cut into pieces that fit a model, with the place of the answer in each piece."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..data.settings import Key, Question

if TYPE_CHECKING:
    from ..data.tokenizers import Tokenizer


class Piece(NamedTuple):
    """``[CLS]`` question ``[SEP]`` piece of the context ``[SEP]``.

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


class ContextPieces:
    """Examples for span extraction, one a piece, in the order of the questions.

    The answer that is learned is a question's first.

    Args:
        questions: what is asked, of what context.
        tokenizer: turns question and context into ids.
        max_length: length of a piece in tokens, with question and special tokens.
        stride: number of context tokens that neighbouring pieces share.

    Raises:
        ValueError: a question leaves too little room for its context.
    """

    def __init__(self, questions: Sequence[Question], tokenizer: Tokenizer, max_length: int, stride: int) -> None:
        self.questions = questions
        self.pieces = list(cut_contexts(questions, tokenizer, max_length, stride))
        self._pad_id = tokenizer.pad_id

    def __len__(self) -> int:
        return len(self.pieces)

    def batch(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """The pieces of ``keys``, padded to the longest of them.

        Returns:
            ``input_ids``, ``attention_mask`` and ``token_type_ids``, which is 1 from the context on (int64
            ``[len(keys), tokens]``); ``context_mask``, true on the context's tokens (bool, the same shape);
            ``start_positions``, ``end_positions`` and ``piece``, the index of each (int64 ``[len(keys)]``).
        """
        pieces = [self.pieces[index] for _, index in keys]
        input_ids = pad_sequence([piece.input_ids for piece in pieces], batch_first=True, padding_value=self._pad_id)
        positions = torch.arange(input_ids.shape[1])
        context_start = torch.tensor([piece.context_start for piece in pieces])[:, None]
        length = torch.tensor([len(piece.input_ids) for piece in pieces])[:, None]
        return {
            "input_ids": input_ids.long(),
            "attention_mask": (positions < length).long(),
            "token_type_ids": ((positions >= context_start) & (positions < length)).long(),
            "context_mask": (positions >= context_start) & (positions < length - 1),
            "start_positions": torch.tensor([piece.answer[0] for piece in pieces]),
            "end_positions": torch.tensor([piece.answer[1] for piece in pieces]),
            "piece": torch.tensor([index for _, index in keys]),
        }

    def text(self, index: int, start: int, end: int) -> str:
        """The part of the context from position ``start`` to position ``end`` of a piece, both included.

        Empty where the positions are not in the context: logits that are not finite can point anywhere.
        """
        piece = self.pieces[index]
        first, last = start - piece.context_start, end - piece.context_start
        if not 0 <= first <= last < len(piece.offsets):
            return ""
        characters = slice(int(piece.offsets[first, 0]), int(piece.offsets[last, 1]))
        # A token of a byte-level tokenizer begins with the space before its word.
        return self.questions[piece.question].context[characters].strip()


def cut_contexts(questions: Sequence[Question], tokenizer: Tokenizer, max_length: int, stride: int) -> Iterator[Piece]:
    """The pieces of all questions; the arguments are those of ``ContextPieces``."""
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
            first, last = find_answer(characters, question)
            for begin in range(0, max(len(ids) - stride, 1), room - stride):
                end = begin + room
                input_ids = torch.cat([torch.tensor(asked, dtype=torch.int32), context_ids[begin:end], separator])
                answer = (0, 0)
                if begin <= first <= last < end:
                    answer = (context_start + first - begin, context_start + last - begin)
                yield Piece(number, input_ids, context_start, offsets[begin:end], answer)


def find_answer(offsets: Sequence[tuple[int, int]], question: Question) -> tuple[int, int]:
    """The first and the last token of the context that overlap the question's first answer.

    Args:
        offsets: the characters [start, end) that each token of the context stands for.
        question: what is asked.
    """
    answer_start = question.answer_starts[0]
    answer_end = answer_start + len(question.answers[0])
    first = bisect_right(offsets, answer_start, key=lambda token: token[1])
    last = bisect_left(offsets, answer_end, key=lambda token: token[0]) - 1
    return first, last
