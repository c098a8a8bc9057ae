"""Tokenizers: deterministic, complete, and closed to special tokens in the text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from whyadam.data import tokenization
from whyadam.data.text import KJV
from whyadam.data.tokenization import SPECIAL_TOKENS, Documents, Tokenizer, chunks, load_tokenizer
from whyadam.errors import UserError

KINDS = ("char", "bpe", "wordpiece")

TRAIN_ALL = """
import sys
from whyadam.data.text import KJV
from whyadam.data.tokenization import Documents
from whyadam.data.tokenization import train_tokenizer
text = Documents.of_text(sys.stdin.read(), "text")
for kind in ("char", "bpe", "wordpiece"):
    print(train_tokenizer(KJV(tokenizer=kind, vocab_size=400), text).to_str())
"""


def trained(text: str, **keys: Any) -> Tokenizer:
    return load_tokenizer(KJV(**{"vocab_size": 400, **keys}), Documents.of_text(text, "a text"))


def test_two_processes_train_the_same_tokenizers(book: str) -> None:
    """The library's WordPiece trainer numbers inner chunks by a hash table that differs from process to process."""
    command = [sys.executable, "-c", TRAIN_ALL]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    first, *others = [process.communicate(book)[0] for process in running]
    assert len(first.splitlines()) == 3
    assert all(output == first for output in others)


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_text_comes_back_to_the_letter(cache: Path, book: str, kind: str) -> None:
    tokenizer = trained(book, tokenizer=kind)
    assert tokenizer.decode(tokenizer.encode(book)) == book


def test_bytes_have_tokens_for_text_never_seen(cache: Path, book: str) -> None:
    tokenizer = trained(book, tokenizer="bpe")
    assert tokenizer.decode(tokenizer.encode("Ωmega 😀\t[MASK]")) == "Ωmega 😀\t[MASK]"


def test_wordpiece_gives_the_words_in_lower_case(cache: Path, book: str) -> None:
    tokenizer = trained(book, tokenizer="wordpiece")
    assert tokenizer.decode(tokenizer.encode("The Lord\nsaid")) == "the lord said"


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_exist_and_never_come_from_text(cache: Path, book: str, kind: str) -> None:
    """A book about BERT that spells [MASK] must not hide tokens."""
    tokenizer = trained(book + " ".join(SPECIAL_TOKENS), tokenizer=kind)
    named = [tokenizer.pad_id, tokenizer.mask_id, tokenizer.separator_id, tokenizer.classification_id]
    assert named == [0, 1, 2, 3]
    assert tokenizer.special_ids == {0, 1, 2, 3, 4}
    assert not tokenizer.special_ids & set(tokenizer.encode("the [MASK] and [SEP]"))
    assert not tokenizer.special_ids & set(tokenizer.encode_many(["the [MASK] and [SEP]"])[0])


@pytest.mark.parametrize("kind", KINDS)
def test_ids_lie_below_the_vocabulary_size(cache: Path, book: str, kind: str) -> None:
    tokenizer = trained(book, tokenizer=kind)
    assert tokenizer.vocab_size <= 400
    assert max(tokenizer.encode(book)) < tokenizer.vocab_size


def test_a_small_char_vocabulary_keeps_the_most_frequent(cache: Path) -> None:
    tokenizer = trained("aaaabbbccd", tokenizer="char", vocab_size=8)
    assert tokenizer.decode(tokenizer.encode("abcd")) == "abc[UNK]"


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_have_the_tokens_of_the_whole(
    cache: Path, book: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut beside other white space would split a run of line ends in two, and change its tokens."""
    book = book.replace(" forth", " \n  forth").replace(" haste", "\n\n\nhaste")
    tokenizer = trained(book, tokenizer=kind)
    monkeypatch.setattr(tokenization, "CHUNK_CHARACTERS", 100)
    parts = list(chunks(book))
    assert len(parts) > 50
    assert "".join(parts) == book
    assert [id for ids in tokenizer.encode_many(parts) for id in ids] == tokenizer.encode(book)


@pytest.mark.parametrize("kind", KINDS)
def test_offsets_point_at_the_characters(cache: Path, book: str, kind: str) -> None:
    tokenizer = trained(book, tokenizer=kind)
    text = "the Lord\u2019s people, amen."
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert ids == tokenizer.encode(text)
    for id, (start, end) in zip(ids, offsets, strict=True):
        shown = tokenizer.decode([id]).removeprefix("##")
        if "\ufffd" not in shown:  # one byte of a longer character
            assert text[start:end].lower() == shown.lower()


def test_wordpiece_says_how_many_entries_the_characters_take(cache: Path, book: str) -> None:
    with pytest.raises(ValueError, match=r"data.vocab_size: 40 is too small"):
        trained(book, tokenizer="wordpiece", vocab_size=40)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"tokenizer": "bpe", "vocab_size": 200}, r"vocab_size\n.* 200 is too small, bpe needs at least 261"),
        ({"tokenizer": "pretrained"}, r"tokenizer_name\n.* give it with tokenizer: pretrained"),
        ({"tokenizer_name": "gpt2"}, r"tokenizer_name\n.* give it with tokenizer: pretrained"),
    ],
)
def test_impossible_keys_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KJV(**keys)


def test_a_pretrained_tokenizer_comes_from_a_folder(cache: Path, folder: Path, book: str, no_network: None) -> None:
    from transformers import PreTrainedTokenizerFast

    ours = trained(book, tokenizer="bpe")
    saved = PreTrainedTokenizerFast(tokenizer_object=ours.backend, eos_token="[SEP]", mask_token="[MASK]")
    saved.save_pretrained(folder / "mine")
    loaded = load_tokenizer(KJV(tokenizer="pretrained", tokenizer_name="mine"), Documents.of_text(book, "a text"))
    assert loaded.encode(book) == ours.encode(book)
    assert (loaded.mask_id, loaded.separator_id, loaded.vocab_size) == (1, 2, ours.vocab_size)
    assert (loaded.pad_id, loaded.classification_id) == (2, 2), "the separator stands in for what GPT2 does not have"
    assert loaded.special_ids == {1, 2}


def test_a_pretrained_tokenizer_that_cannot_be_read_is_one_line(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "damaged").mkdir()
    (folder / "damaged" / "tokenizer.json").write_text("{")
    for name in ("empty", "damaged", "./missing"):
        with pytest.raises(UserError, match=rf"^data.tokenizer_name: .*{name.strip('./')}") as caught:
            load_tokenizer(KJV(tokenizer="pretrained", tokenizer_name=name), Documents.of_text("text", "a text"))
        assert "\n" not in str(caught.value)
