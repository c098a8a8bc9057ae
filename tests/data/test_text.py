"""Running text: splits, the token cache and error messages, on the embedded book and the user's files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from whyadam.data import corpus
from whyadam.data import tokenization as tokenizer_training
from whyadam.data.text import KJV, TextFile, split
from whyadam.data.tokenization import Documents
from whyadam.errors import UserError


def text_of(documents: Documents) -> str:
    return "".join(documents.read())


def refuse(*_: object) -> None:
    raise AssertionError("done a second time")


def test_kjv_is_the_whole_book_without_marks(no_network: None) -> None:
    train, evaluation = map(text_of, KJV().parts())
    assert train.startswith("In the beginning God created the heaven and the earth.")
    assert "and darkness was upon the face of the deep" in train, "the words inside the marks stay"
    assert evaluation.endswith("Amen.")
    assert not set("[]0123456789") & set(train + evaluation)
    assert len(train + evaluation) == 4_138_977


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.99])
def test_a_split_is_contiguous_and_begins_with_a_line(book: str, fraction: float) -> None:
    train, evaluation = map(text_of, split(book, fraction, "a book"))
    assert train + evaluation == book
    assert train.endswith("\n")
    assert len(evaluation) == pytest.approx(fraction * len(book), abs=250)


LINE = "some words " * 200


@pytest.mark.parametrize(
    ("text", "held_out"),
    [
        ("some words " * 20000 + "\n", 22_001),  # one line: within it, before a word
        ((LINE + "\n") * 9, 2201),  # nine documents, one per line: before the last
        (LINE + "\n" + LINE * 100 + "\n", 22_221),  # a short line and a long one: within the long one
        (LINE * 100 + "\nthe end\n", 22_009),  # a long line and a short one: not the short one alone
        (LINE * 100 + "\n\n\n", 22_003),  # nothing but line ends after the long line
        (LINE * 100 + "\r\n", 22_002),
        ("\n\n" + "some words\r" * 20000, 22_000),  # line ends of another kind
    ],
)
def test_a_long_last_line_is_split_within_it_or_before_it(text: str, held_out: int) -> None:
    """Catches a part that has nothing, or next to nothing, and words that are cut in two."""
    train, evaluation = map(text_of, split(text, 0.1, "a text"))
    assert train + evaluation == text
    assert len(evaluation) == pytest.approx(held_out, abs=12)
    assert evaluation.split()[0] in ("some", "words")
    assert train.split()[-1] in ("some", "words")


def test_nine_documents_of_one_line_can_be_loaded(cache: Path, folder: Path) -> None:
    (folder / "a.txt").write_text(("some words " * 2000 + "\n") * 9)
    text = TextFile(path="a.txt", tokenizer="char", block_size=16).load(seed=0)
    assert (len(text.train), len(text.evaluation)) == (8 * 22_001, 22_001)


def test_a_text_of_one_line_is_split_all_the_same() -> None:
    train, evaluation = map(text_of, split("a" * 100, 0.1, "a line"))
    assert (len(train), len(evaluation)) == (90, 10)


def test_loaded_tokens_are_the_text_on_both_sides_of_the_split(cache: Path, folder: Path, book: str) -> None:
    (folder / "book.txt").write_text(book, encoding="utf-8")
    text = TextFile(path="book.txt", tokenizer="char", block_size=16).load(seed=0)
    assert text.train.dtype == text.evaluation.dtype == torch.int32
    decoded = [text.tokenizer.decode(tokens.tolist()) for tokens in (text.train, text.evaluation)]
    assert "".join(decoded) == book
    assert text.block_size == 16


def test_the_tokenizer_sees_only_the_training_part(cache: Path, folder: Path) -> None:
    (folder / "a.txt").write_text("abc\n" * 50)
    (folder / "b.txt").write_text("abz\n" * 50)
    text = TextFile(path="a.txt", evaluation_path="b.txt", tokenizer="char", block_size=8).load(seed=0)
    assert text.tokenizer.decode(text.evaluation[:4].tolist()) == "ab[UNK]\n"


def test_the_second_load_trains_and_encodes_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = KJV(tokenizer="char")
    first = settings.load(seed=0)
    monkeypatch.setattr(tokenizer_training, "train_tokenizer", refuse)
    monkeypatch.setattr(corpus, "_write_tokens", refuse)
    second = settings.load(seed=1)
    assert torch.equal(first.train, second.train)
    assert torch.equal(first.evaluation, second.evaluation)


def test_another_text_or_tokenizer_is_another_file(cache: Path, folder: Path, book: str) -> None:
    file = folder / "book.txt"
    lengths = []
    for text, vocab_size in [(book, 270), (book, 280), (book.replace("amen", "so be it"), 280)]:
        file.write_text(text, encoding="utf-8")
        settings = TextFile(path="book.txt", block_size=16, vocab_size=vocab_size)
        loaded = settings.load(seed=0)
        assert loaded.tokenizer.decode(loaded.evaluation.tolist()) == text_of(settings.parts()[1])
        lengths.append(len(loaded.train))
    assert len(set(lengths)) == 3


@pytest.mark.parametrize("kind", ["tokenizers", "tokens"])
def test_a_damaged_cache_is_rebuilt(cache: Path, folder: Path, book: str, kind: str) -> None:
    (folder / "book.txt").write_text(book, encoding="utf-8")
    settings = TextFile(path="book.txt", tokenizer="wordpiece", vocab_size=300, block_size=16)
    first = settings.load(seed=0).train.tolist()
    for file in (cache / kind).iterdir():
        if file.suffix in (".json", ".int32"):
            file.write_bytes(file.read_bytes()[:-8])
    assert settings.load(seed=0).train.tolist() == first


def test_documents_are_joined_with_the_separator_and_written_as_they_come(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading all documents before the first is written would not fit Wikipedia in memory."""
    path = tmp_path / "tokens"
    written_before = []

    def read() -> Iterator[str]:
        for number in range(10):
            written_before.append(path.stat().st_size if path.exists() else 0)
            yield f"abc{number % 2}\nab"

    documents = Documents("documents", "digest", read)
    tokenizer = corpus.load_tokenizer(KJV(tokenizer="char"), documents)
    monkeypatch.setattr(corpus, "CHUNKS_AT_ONCE", 2)
    written_before.clear()
    corpus._write_tokens(documents, tokenizer, path)
    tokens = np.fromfile(path, dtype=np.int32)
    assert tokenizer.decode(tokens.tolist()).split("[SEP]") == list(read())
    assert sum(tokens == tokenizer.separator_id) == 9
    assert written_before[4] > 0


def test_paths_are_looked_up_below_the_variable_and_then_here(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("here")
    assert text_of(TextFile(path="a.txt").parts()[0]) in "here"
    (folder / "a.txt").write_text("there")
    assert text_of(TextFile(path="a.txt").parts()[0]) in "there"
    (tmp_path / "b.txt").write_text("absolute")
    assert text_of(TextFile(path=str(tmp_path / "b.txt")).parts()[0]) in "absolute"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"data.path: no file or folder at .*data/a.txt or .*a.txt"),
        (b"", r"data.path: .*a.txt is empty"),
        (b" \n\n", r"data.path: .*a.txt is empty"),
        (b"good \xff bad", r"data.path: .*a.txt is not UTF-8 text: invalid start byte at byte 5"),
        (b"short\n" * 30, r"the evaluation part of a.txt is too short: it has 12 tokens, and one example takes 33;"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(cache: Path, folder: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (folder / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=f"^{message}") as caught:
        TextFile(path="a.txt", tokenizer="char", block_size=32).load(seed=0)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_text(folder: Path) -> None:
    (folder / "a.txt").mkdir()
    with pytest.raises(ValueError, match=r"data.path: cannot read .*a.txt"):
        TextFile(path="a.txt").load(seed=0)


class EmptyText(corpus.TextSettings):
    name: Literal["empty"] = "empty"

    def parts(self) -> tuple[Documents, Documents]:
        return Documents.of_text("", "nothing"), Documents.of_text("", "nothing")


def test_no_text_at_all_is_said(cache: Path) -> None:
    with pytest.raises(ValueError, match="nothing: there is no text"):
        EmptyText().load(seed=0)


@pytest.mark.parametrize(
    ("keys", "characters"),
    [
        ({"path": "tinyshakespeare.txt"}, 1_115_394),
        ({"path": "wikitext2.valid.txt", "evaluation_path": "wikitext2.test.txt"}, None),
    ],
)
def test_real_text_comes_back_from_its_tokens(
    data_folder: Path, cache: Path, keys: dict[str, str], characters: int | None
) -> None:
    text = TextFile(**keys, tokenizer="bpe", vocab_size=1024).load(seed=0)
    decoded = [text.tokenizer.decode(tokens.tolist()) for tokens in (text.train, text.evaluation)]
    if characters is not None:
        assert "".join(decoded) == (data_folder / keys["path"]).read_text(encoding="utf-8")
        assert len("".join(decoded)) == characters
    else:
        assert decoded == [(data_folder / path).read_text(encoding="utf-8") for path in keys.values()]
