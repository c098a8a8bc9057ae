"""Question answering: chunks of contexts, the answer's position in each, the loss of a span, the best spans' scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import tokenizers
import torch
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from torch import Tensor, nn
from whyadam.data import DATA
from whyadam.data.base import Question, Questions
from whyadam.data.tokenization import Tokenizer
from whyadam.tasks import TASKS
from whyadam.tasks.question_answering import SpanTask, best_spans


def batch_of(task: SpanTask, indices: range) -> dict[str, Tensor]:
    return task.evaluation.batch([(0, index) for index in indices])


def batches(task: SpanTask, size: int) -> list[dict[str, Tensor]]:
    chunks = len(task.evaluation)
    return [batch_of(task, range(i, min(i + size, chunks))) for i in range(0, chunks, size)]


@pytest.mark.parametrize("longest", [1, 3, 50])
def test_best_spans_are_those_of_a_search(longest: int) -> None:
    """Catches an end before its start, a span too long by one, and spans that reach out of the context."""
    generator = torch.Generator().manual_seed(0)
    start_logits, end_logits = torch.randn(2, 8, 12, generator=generator)
    context = torch.zeros(8, 12, dtype=torch.bool)
    for row in range(8):
        context[row, 3 : 5 + row] = True
    scores, starts, ends = best_spans(start_logits, end_logits, context, longest)
    for row in range(8):
        candidates = [
            (float(start_logits[row, i] + end_logits[row, j]), i, j)
            for i in range(12)
            for j in range(i, min(i + longest, 12))
            if context[row, i] and context[row, j]
        ]
        assert (scores[row].item(), starts[row].item(), ends[row].item()) == max(candidates)


Answerer = Callable[[int, SpanTask], list[tuple[float, int, int]]]


def answering(task: SpanTask, answerer: Answerer) -> nn.Module:
    """A model that scores, for each chunk, the spans that ``answerer`` lists as (score, start, end)."""
    by_ids = {}
    for index, chunk in enumerate(task.evaluation.chunks):
        by_ids.setdefault(tuple(chunk.input_ids.tolist()), []).append(answerer(index, task))

    class Model(nn.Module):
        def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> SimpleNamespace:
            start_logits, end_logits = torch.zeros(2, *input_ids.shape)
            for row, (ids, mask) in enumerate(zip(input_ids, attention_mask, strict=True)):
                for score, start, end in by_ids[tuple(ids[mask.bool()].tolist())].pop(0):
                    start_logits[row, start] = end_logits[row, end] = score
            return SimpleNamespace(start_logits=start_logits, end_logits=end_logits)

    return Model()


def right(index: int, task: SpanTask) -> list[tuple[float, int, int]]:
    """Sure of the answer where it is; elsewhere of [CLS], and a little of some other span."""
    chunk = task.evaluation.chunks[index]
    if chunk.answer == (0, 0):
        return [(50.0, 0, 0), (4.0, chunk.context_start, chunk.context_start)]
    return [(20.0, 0, 0), (10.0, *chunk.answer)]


def wrong(index: int, task: SpanTask) -> list[tuple[float, int, int]]:
    """Sure of a word beside the answer."""
    chunk = task.evaluation.chunks[index]
    beside = chunk.answer[0] - 1 if chunk.answer[0] > chunk.context_start else chunk.answer[1] + 1
    return [(10.0, beside, beside)] if chunk.answer != (0, 0) else []


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_right_spans_score_one(span_task: SpanTask, size: int) -> None:
    """Catches a chunk without the answer that wins because it is the first, the last, or sure of [CLS]."""
    scores = span_task.evaluate(answering(span_task, right), batches(span_task, size))
    assert (scores.exact_match, scores.f1) == (1.0, 1.0)
    assert scores.perplexity is None
    assert scores.accuracy is None


def test_the_wrong_spans_score_zero(span_task: SpanTask) -> None:
    scores = span_task.evaluate(answering(span_task, wrong), batches(span_task, 7))
    assert (scores.exact_match, scores.f1) == (0.0, 0.0)


def test_scores_are_shares_of_the_questions_seen(bind: Callable[..., SpanTask], ask: Callable[..., Question]) -> None:
    """One answer of three is right, one has one of two words; catches percent, and chunks counted as questions."""
    task = bind([ask(0, 40, 3, 1), ask(1, 6, 2, 2), ask(2, 6, 5, 1)])
    third = next(i for i, chunk in enumerate(task.evaluation.chunks) if chunk.question == 2)

    def answerer(index: int, task: SpanTask) -> list[tuple[float, int, int]]:
        start, end = task.evaluation.chunks[index].answer
        if index == third:
            return [(9.0, start - 1, start - 1)]
        return [(9.0, start, start)] if end else []

    scores = task.evaluate(answering(task, answerer), batches(task, 2))
    assert scores.exact_match == pytest.approx(1 / 3)
    assert scores.f1 == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_any_accepted_answer_is_right(bind: Callable[..., SpanTask], ask: Callable[..., Question]) -> None:
    question = ask(0, 10, 4, 1)
    task = bind([replace(question, answers=("w4", "w6"), answer_starts=(question.answer_starts[0], 24))])
    place = task.evaluation.chunks[0].answer[0] + 2
    scores = task.evaluate(answering(task, lambda *_: [(9.0, place, place)]), batches(task, 1))
    assert (scores.exact_match, scores.f1) == (1.0, 1.0)


def test_a_diverged_model_is_scored(span_task: SpanTask) -> None:
    """Catches a crash on a span that reaches out of the context, as infinite logits can make it the best."""

    class Diverged(nn.Module):
        def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> SimpleNamespace:
            logits = torch.zeros(input_ids.shape)
            logits[:, -2] = torch.inf
            return SimpleNamespace(start_logits=logits, end_logits=logits)

    scores = span_task.evaluate(Diverged(), batches(span_task, 1))
    assert not math.isfinite(scores.loss)
    assert scores.exact_match == 0


class Reader(nn.Module):
    """Every token sees itself, its type and the mean over the tokens that are no padding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.types = nn.Embedding(80, 8), nn.Embedding(2, 8)
        self.decoder = nn.Linear(8, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> SimpleNamespace:
        hidden = self.words(input_ids) + self.types(token_type_ids)
        present = attention_mask[..., None].to(hidden.dtype)
        mean = (hidden * present).sum(1, keepdim=True) / present.sum(1, keepdim=True)
        start_logits, end_logits = self.decoder((hidden + mean).tanh()).unbind(-1)
        return SimpleNamespace(start_logits=start_logits, end_logits=end_logits)


def loss_by_hand(task: SpanTask, model: nn.Module, index: int) -> Tensor:
    """One chunk without padding."""
    batch = batch_of(task, range(index, index + 1))
    output = model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    start, end = task.evaluation.chunks[index].answer
    return -(output.start_logits.log_softmax(1)[0, start] + output.end_logits.log_softmax(1)[0, end]) / 2


def test_the_loss_is_the_mean_of_both_ends_whatever_the_padding(span_task: SpanTask) -> None:
    """Catches a softmax over padding, which makes the loss of a chunk depend on its batch."""
    model = Reader().double()
    loss, count = span_task.loss(model, batch_of(span_task, range(len(span_task.train))))
    expected = sum(loss_by_hand(span_task, model, index) for index in range(len(span_task.train)))
    torch.testing.assert_close(loss, expected)
    assert count == len(span_task.train)
    assert count.dtype == torch.int64
    scores = span_task.evaluate(model, batches(span_task, 9))
    assert scores.loss == pytest.approx((expected / count).item())


def test_evaluating_nothing_is_refused(span_task: SpanTask) -> None:
    with pytest.raises(ValueError, match="no question to score"):
        span_task.evaluate(Reader(), [])


def test_a_question_whose_chunks_are_not_all_there_is_not_scored(
    bind: Callable[..., SpanTask], ask: Callable[..., Question]
) -> None:
    """An evaluation of the first N chunks would otherwise look for an answer where it is not."""
    task = bind([ask(0, 6, 2, 1), ask(1, 40, 35, 1)])
    assert len(task.evaluation) > 2
    scores = task.evaluate(answering(task, right), [batch_of(task, range(2))])
    assert (scores.exact_match, scores.f1) == (1.0, 1.0)
    only_part = task.evaluate(answering(task, right), [batch_of(task, range(1, 2))])
    assert only_part.exact_match is None


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


@pytest.fixture
def xquad(data_folder: Path) -> Questions:
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
def test_every_answer_is_found_in_its_labels(xquad: Questions, max_length: int, stride: int) -> None:
    """Catches what hand-made contexts lack: accents, unknown characters, quotation marks, answers across chunks."""
    settings = TASKS["question_answering"].model_validate({"max_length": max_length, "stride": stride})
    task = settings.bind(xquad, seed=0)
    assert isinstance(task, SpanTask)
    for examples, asked in ((task.train, xquad.train), (task.evaluation, xquad.evaluation)):
        found = set()
        for index, chunk in enumerate(examples.chunks):
            assert len(chunk.input_ids) <= max_length
            if chunk.answer != (0, 0):
                found.add(chunk.question)
                text, answer = examples.text(index, *chunk.answer), asked[chunk.question].answers[0]
                assert text == answer or (text.startswith(answer) and ends_within_a_word(asked[chunk.question]))
        assert found == set(range(len(asked)))
