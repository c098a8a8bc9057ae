"""Small stand-ins for data and models, whose numbers can be checked by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import tokenizers
import torch
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor, nn
from whyadam.data.base import Images, Question, Questions, Text
from whyadam.data.tokenization import Tokenizer
from whyadam.tasks import TASKS
from whyadam.tasks.question_answering import SpanTask

WORDS = [f"w{number}" for number in range(60)]
SPECIAL_TOKENS = ["[PAD]", "[MASK]", "[SEP]", "[CLS]", "[UNK]"]


@dataclass(frozen=True)
class Vocabulary:
    """The part of a tokenizer that tasks on running text read: 40 tokens, the first five special."""

    vocab_size: int = 40
    mask_id: int | None = 4
    special_ids: frozenset[int] = field(default=frozenset(range(5)))


class StoredImages:
    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, keys: list[tuple[int, int]]) -> dict[str, Tensor]:
        rows = [index for _, index in keys]
        return {"images": self.images[rows], "labels": self.labels[rows]}


class TinyClassifier(nn.Sequential):
    """A linear map of 3 × 4 × 4 images to 5 classes."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(48, 5))


class TinyLanguageModel(nn.Module):
    """Every token sees itself and the mean of its block, so that hidden tokens and padding matter."""

    def __init__(self, outputs: int = 40) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 8)
        self.decoder = nn.Linear(8, outputs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> SimpleNamespace:
        hidden = self.embedding(input_ids)
        return SimpleNamespace(logits=self.decoder((hidden + hidden.mean(dim=1, keepdim=True)).tanh()))


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary()


@pytest.fixture
def text(vocabulary: Vocabulary) -> Text:
    """500 tokens to learn from and 200 held out, special ones among them, in blocks of 16."""
    generator = torch.Generator().manual_seed(0)
    train, evaluation = (torch.randint(40, (n,), generator=generator, dtype=torch.int32) for n in (500, 200))
    return Text(train, evaluation, vocabulary, block_size=16)  # type: ignore[arg-type]


@pytest.fixture
def images() -> Images:
    """30 random images to learn from and 17 held out, of 5 classes."""
    generator = torch.Generator().manual_seed(1)
    train, evaluation = (
        StoredImages(torch.randn(n, 3, 4, 4, generator=generator), torch.randint(5, (n,), generator=generator))
        for n in (30, 17)
    )
    return Images(train, evaluation, classes=tuple("abcde"), image_size=4)


@pytest.fixture
def classifier() -> TinyClassifier:
    torch.manual_seed(2)
    return TinyClassifier()


@pytest.fixture
def language_model() -> TinyLanguageModel:
    torch.manual_seed(3)
    return TinyLanguageModel()


@pytest.fixture(scope="session")
def word_tokenizer() -> Tokenizer:
    """One token a word or punctuation mark."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *WORDS, "which", "?", ",", "."])}
    backend = tokenizers.Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    return Tokenizer(backend, 0, 1, 2, 3, frozenset(range(5)))


@pytest.fixture(scope="session")
def ask() -> Callable[[int, int, int, int], Question]:
    """A function of number, context, first and length: the answer is ``length`` words from word ``first`` on."""

    def question(number: int, context_words: int, first: int, length: int) -> Question:
        words = WORDS[:context_words]
        context = "  ".join(words)
        answer = "  ".join(words[first : first + length])
        start = len("  ".join(words[:first])) + 2 * (first > 0)
        assert context[start : start + len(answer)] == answer
        return Question(str(number), context, "which ?", (answer,), (start,))

    return question


@pytest.fixture(scope="session")
def questions(ask: Callable[[int, int, int, int], Question]) -> list[Question]:
    """About contexts of one to four chunks, answers of one to five words, everywhere in them."""
    asked = [(size, first, 1 + first % 5) for size in (6, 15, 16, 30, 60) for first in range(0, size - 5, 3)]
    return [ask(number, *about) for number, about in enumerate(asked)]


@pytest.fixture(scope="session")
def bind(word_tokenizer: Tokenizer) -> Callable[..., SpanTask]:
    """A function of questions, a tokenizer and settings: the task that trains and evaluates on them."""

    def task(asked: list[Question], tokenizer: Tokenizer = word_tokenizer, **settings: int) -> SpanTask:
        values = {"max_length": 20, "stride": 5, "max_answer_length": 6} | settings
        bound = TASKS["question_answering"].model_validate(values).bind(Questions(asked, asked, tokenizer), seed=0)
        assert isinstance(bound, SpanTask)
        return bound

    return task


@pytest.fixture(scope="session")
def span_task(bind: Callable[..., SpanTask], questions: list[Question]) -> SpanTask:
    """Chunks of 20 tokens, 5 of them shared."""
    return bind(questions)
