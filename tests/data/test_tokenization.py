"""Tokenizers: deterministic, complete, and closed to special tokens in the text."""

from __future__ import annotations

import functools
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from whyadam.data import Question, Questions, tokenization
from whyadam.data.text import KJV, TextFile
from whyadam.data.tokenization import SPECIAL_TOKENS, Documents, Tokenizer, chunks, load_tokenizer
from whyadam.errors import UserError
from whyadam.tasks import TASKS

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


@functools.cache
def wordpiece(text: str) -> str:
    """Trained once: the library's trainer breaks ties in another way each time."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    return str(tokenizer.to_str())


def save_tokenizer(folder: Path, text: str, change: Callable[[Any], None]) -> None:
    """A WordPiece tokenizer in the form of the hub, after ``change``."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = tokenizers.Tokenizer.from_str(wordpiece(text))
    change(tokenizer)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    saved = PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", **names)
    saved.save_pretrained(folder)


CUTTING: dict[str, Callable[[Any], None]] = {
    "truncation": lambda tokenizer: tokenizer.enable_truncation(8),
    "truncation on the left": lambda tokenizer: tokenizer.enable_truncation(8, direction="left"),
    "padding": lambda tokenizer: tokenizer.enable_padding(length=512),
    "padding to multiples": lambda tokenizer: tokenizer.enable_padding(pad_to_multiple_of=64),
}


@pytest.mark.parametrize("change", CUTTING)
def test_a_pretrained_tokenizer_neither_cuts_nor_pads(cache: Path, folder: Path, book: str, change: str) -> None:
    """Many published ones have truncation on, by which 99 % of a text were lost."""
    (folder / "book.txt").write_text(book * 3)
    loaded = []
    for name, changed in (("plain", lambda _: None), ("changed", CUTTING[change])):
        save_tokenizer(folder / name, book, changed)
        keys = {"tokenizer": "pretrained", "tokenizer_name": f"./{name}"}
        loaded.append(TextFile(path="book.txt", block_size=16, **keys).load(seed=0))
    for part in ("train", "evaluation"):
        plain, changed = (getattr(text, part) for text in loaded)
        assert len(plain) > 1000
        assert torch.equal(plain, changed)
    assert loaded[0].tokenizer.encode_with_offsets(book) == loaded[1].tokenizer.encode_with_offsets(book)


def test_no_question_loses_its_answer_to_truncation(cache: Path, folder: Path, book: str) -> None:
    save_tokenizer(folder / "cutting", book, CUTTING["truncation"])
    tokenizer = load_tokenizer(
        KJV(tokenizer="pretrained", tokenizer_name="./cutting"), Documents.of_text(book, "a text")
    )
    context = book.replace("\n", " ")[:2000].strip()
    answer = context.split()[-2]
    question = Question("last", context, "What is near the end?", (answer,), (context.rindex(answer),))
    settings = TASKS["question_answering"].model_validate({"max_length": 64, "stride": 16})
    chunks = settings.bind(Questions([question], [question], tokenizer), seed=0).train.chunks
    assert sum(chunk.answer != (0, 0) for chunk in chunks) >= 1


def test_merges_are_not_dropped_at_random(cache: Path, folder: Path, book: str) -> None:
    """BPE dropout (Provilkov et al. 2020) would give the evaluation other tokens in each process."""
    from transformers import PreTrainedTokenizerFast

    backend = trained(book, tokenizer="bpe").backend
    backend.model.dropout = 0.5
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="[SEP]").save_pretrained(folder / "dropping")
    backend.model.dropout = None
    loaded = load_tokenizer(KJV(tokenizer="pretrained", tokenizer_name="./dropping"), Documents.of_text(book, "a text"))
    assert loaded.encode(book) == backend.encode(book, add_special_tokens=False).ids


@pytest.mark.parametrize(("share", "warned"), [(0.005, False), (0.05, True)])
def test_a_share_of_unknown_tokens_is_told(cache: Path, folder: Path, share: float, warned: bool) -> None:
    """Also of tokens that come from the cache."""
    known, unknown = "ab\n" * 1000, "abc" + "x" * round(3004 * share / (1 - share)) + "\n"
    (folder / "a.txt").write_text(known)
    (folder / "b.txt").write_text(known + unknown)
    source = TextFile(path="a.txt", evaluation_path="b.txt", tokenizer="char", block_size=16)
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            text = source.load(seed=0)
        found = float((text.evaluation == text.tokenizer.unknown_id).double().mean())
        assert found == pytest.approx(share, rel=0.1)
        expected = [f"data.tokenizer: {found:.1%} of the tokens of b.txt are unknown"] if warned else []
        assert [str(warning.message).partition(" (")[0] for warning in caught] == expected


def test_unknown_tokens_of_questions_are_told(cache: Path) -> None:
    tokenizer = trained("when was the tower built in 1889?", tokenizer="char")
    question = Question("0", "ЖЖЖ in 1889", "when?", ("1889",), (7,))
    settings = TASKS["question_answering"].model_validate({"max_length": 64, "stride": 16})
    with pytest.warns(
        UserWarning, match=r"^data.tokenizer: 15.8% of the tokens of the (training|evaluation) part's questions"
    ):
        settings.bind(Questions([question], [question], tokenizer), seed=0)
