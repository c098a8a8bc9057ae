"""Contexts cut into chunks, and the place of the answer in each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import tokenizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from whyadam.data.base import Question
from whyadam.data.tokenization import Tokenizer
from whyadam.tasks import TASKS
from whyadam.tasks.question_answering import SpanTask

PAD, MAX_LENGTH, STRIDE = 0, 20, 5


def test_labels_map_back_to_the_exact_answer(span_task: SpanTask, questions: list[Question]) -> None:
    """Catches positions that are one off, that forget the question, or that belong to another chunk."""
    for index, chunk in enumerate(span_task.train.chunks):
        answer = questions[chunk.question].answers[0]
        words = span_task.train.text(index, chunk.context_start, len(chunk.input_ids) - 2)
        assert (chunk.answer != (0, 0)) == (f"{answer} " in f"{words} ")
        if chunk.answer != (0, 0):
            assert span_task.train.text(index, *chunk.answer) == answer
    assert {chunk.question for chunk in span_task.train.chunks if chunk.answer != (0, 0)} == set(range(len(questions)))


def test_chunks_are_those_of_the_tokenizers_library(
    span_task: SpanTask, questions: list[Question], word_tokenizer: Tokenizer
) -> None:
    """Catches a stride that means something else than there, special tokens amiss, and a lost last chunk."""
    library = tokenizers.Tokenizer.from_str(word_tokenizer.backend.to_str())
    library.post_processor = TemplateProcessing(
        single="$A",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 3), ("[SEP]", 2)],
    )
    library.enable_truncation(MAX_LENGTH, stride=STRIDE, strategy="only_second")
    index = 0
    for question in questions:
        encoding = library.encode(question.question, question.context)
        for expected in (encoding, *encoding.overflowing):
            batch = span_task.evaluation.batch([(0, index)])
            assert batch["input_ids"].tolist() == [expected.ids]
            assert batch["token_type_ids"].tolist() == [expected.type_ids]
            assert batch["context_mask"].tolist() == [[sequence == 1 for sequence in expected.sequence_ids]]
            index += 1
    assert index == len(span_task.train) > len(questions)


def test_a_batch_is_padded_to_its_longest_chunk(span_task: SpanTask) -> None:
    short, long = 0, len(span_task.train) - 2
    assert len(span_task.train.chunks[short].input_ids) < len(span_task.train.chunks[long].input_ids) == MAX_LENGTH
    batch = span_task.train.batch([(0, long), (0, short)])
    length = len(span_task.train.chunks[short].input_ids)
    assert batch["input_ids"].shape == (2, MAX_LENGTH)
    assert (batch["input_ids"][1, length:] == PAD).all()
    assert batch["attention_mask"].sum(1).tolist() == [MAX_LENGTH, length]
    assert not batch["token_type_ids"][1, length:].any()
    assert not batch["context_mask"][1, length - 1 :].any()
    assert span_task.tokens(batch) == MAX_LENGTH + length


def test_an_answer_within_a_word_is_the_word(bind: Callable[..., SpanTask]) -> None:
    """People marked "w1" in "w12": the label is the token that holds it."""
    context = "w10 w12 , w30"
    task = bind([Question("0", context, "which ?", ("w1",), (4,))])
    assert task.train.text(0, *task.train.chunks[0].answer) == "w12"


def test_a_byte_level_tokenizer_gives_answers_without_their_space(bind: Callable[..., SpanTask]) -> None:
    """There a token begins with the space before its word."""
    backend = tokenizers.Tokenizer(BPE())
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    alphabet = ByteLevel.alphabet()
    special_tokens = ["[PAD]", "[MASK]", "[SEP]", "[CLS]", "[UNK]"]
    trainer = BpeTrainer(vocab_size=300, special_tokens=special_tokens, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["w1 w2 w3"], trainer)
    tokenizer = Tokenizer(backend, 0, 1, 2, 3, frozenset(range(5)))
    context = "w1 élan w2 w3"
    task = bind([Question("0", context, "which ?", ("w2",), (8,))], tokenizer, max_length=64)
    chunk = task.train.chunks[0]
    assert chunk.offsets[chunk.answer[0] - chunk.context_start, 0] == 7
    assert task.train.text(0, *chunk.answer) == "w2"


def test_a_question_without_room_for_its_context_is_one_line(
    bind: Callable[..., SpanTask], ask: Callable[..., Question]
) -> None:
    """The tokenizers library panics here."""
    question = replace(ask(7, 60, 3, 1), question="which " * 12)
    with pytest.raises(
        ValueError, match=r"^task\.max_length: 20 .* question 7; with a stride of 5 it needs at least 21$"
    ):
        bind([question])
    bind([question], max_length=21)


def test_a_stride_as_long_as_a_chunk_is_refused() -> None:
    with pytest.raises(ValueError, match="stride: 128 must be below max_length, which is 64"):
        TASKS["question_answering"].model_validate({"max_length": 64})
