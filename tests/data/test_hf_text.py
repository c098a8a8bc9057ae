"""Text through `datasets`, from local folders; nothing here reaches the hub."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
from whyadam.data import hf_text as hub
from whyadam.data.base import Text
from whyadam.data.hf_text import HFText
from whyadam.errors import UserError

TEXTS = [f"document {number} of the set" for number in range(40)]


def write(folder: Path, texts: list[str], column: str = "text") -> None:
    folder.mkdir(exist_ok=True)
    (folder / "train.jsonl").write_text("".join(json.dumps({column: text}) + "\n" for text in texts))


def documents_of(text: Text) -> tuple[list[str], list[str]]:
    parts = (text.train, text.evaluation)
    train, evaluation = (text.tokenizer.decode(tokens.tolist()).split("[SEP]") for tokens in parts)
    return train, evaluation


def settings(*sources: dict[str, Any], **keys: Any) -> HFText:
    return HFText(sources=sources, tokenizer="char", block_size=16, **keys)


@pytest.fixture
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    datasets.disable_progress_bars()


@pytest.mark.usefixtures("cache", "datasets_cache", "no_network")
class TestLocalFolder:
    @pytest.mark.parametrize("streaming", [False, True])
    def test_the_first_documents_are_held_out(self, folder: Path, streaming: bool) -> None:
        write(folder / "set", ["", *TEXTS[:20], "  ", *TEXTS[20:]])
        text = settings({"path": "set", "evaluation_documents": 5}, streaming=streaming).load(seed=0)
        assert documents_of(text) == (TEXTS[5:], TEXTS[:5])

    def test_a_split_of_its_own_is_held_out_and_training_may_be_cut(self, folder: Path) -> None:
        write(folder / "set", TEXTS)
        (folder / "set" / "validation.jsonl").write_text(json.dumps({"text": "the set of the document"}) + "\n")
        text = settings({"path": "set", "evaluation_split": "validation", "max_documents": 3}).load(seed=0)
        assert documents_of(text) == (TEXTS[:3], ["the set of the document"])

    def test_several_sets_follow_each_other_in_both_parts(self, folder: Path) -> None:
        """As Wikipedia and BookCorpus do; held out would otherwise be only one of them."""
        others = [f"another {number} sentence" for number in range(9)]
        write(folder / "a", TEXTS)
        write(folder / "b", others, column="sentence")
        text = settings(
            {"path": "a", "evaluation_documents": 2},
            {"path": "b", "evaluation_documents": 1, "text_column": "sentence"},
        ).load(seed=0)
        assert documents_of(text) == (TEXTS[2:] + others[1:], TEXTS[:2] + others[:1])

    def test_the_second_load_reads_no_row_and_a_changed_file_all(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(folder / "set", TEXTS)
        source = {"path": "set", "evaluation_documents": 5}
        settings(source).load(seed=0)
        with monkeypatch.context() as patch:
            patch.setattr(hub, "rows", lambda *_, **__: pytest.fail("rows were read again"))
            settings(source, streaming=True).load(seed=0)
        write(folder / "set", [*TEXTS, "one more"])
        assert documents_of(settings(source).load(seed=0))[0][-1] == "one more"

    @pytest.mark.parametrize("streaming", [False, True])
    @pytest.mark.parametrize(
        ("value", "found"),
        [(7, r"7 \(int\)"), (["a", "b"], r"\['a', 'b'\] \(list\)"), ({"en": "a"}, r"\{'en': 'a'\} \(dict\)")],
    )
    def test_a_column_that_is_no_text_is_named_with_its_row(
        self, folder: Path, value: Any, found: str, streaming: bool
    ) -> None:
        (folder / "set").mkdir()
        (folder / "set" / "train.jsonl").write_text(
            "".join(json.dumps({"text": row}) + "\n" for row in (None, value, value))
        )
        with pytest.raises(
            UserError, match=rf"^data.sources.text_column: text is {found} in row 2 of set, split train; not a text$"
        ):
            settings({"path": "set", "evaluation_documents": 1}, streaming=streaming).load(seed=0)

    def test_a_binary_column_is_named_too(self, folder: Path) -> None:
        (folder / "set").mkdir()
        pandas.DataFrame({"text": [b"some", b"bytes"]}).to_parquet(folder / "set" / "train.parquet")
        with pytest.raises(UserError, match=r"text is b'some' \(bytes\) in row 1 of set"):
            settings({"path": "set", "evaluation_documents": 1}).load(seed=0)

    @pytest.mark.parametrize("streaming", [False, True])
    def test_half_a_character_is_named_with_file_and_line(self, folder: Path, streaming: bool) -> None:
        write(folder / "set", [*TEXTS[:5], "half \ud83d", *TEXTS[5:]])
        with pytest.raises(UserError, match=r"^data.sources.path: .*set/train.jsonl, line 6\)$") as caught:
            settings({"path": "set", "evaluation_documents": 3}, streaming=streaming).load(seed=0)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ({"text_column": "body"}, "data.sources.text_column: set has no body, only text"),
            ({"split": "other"}, "data.sources.path: cannot load set, split other: .*other"),
            ({"evaluation_documents": 40}, "the train part of set: there is no text"),
            ({"path": "damaged"}, "data.sources.path: cannot load damaged, split train: "),
        ],
    )
    def test_what_is_wrong_is_one_line(self, folder: Path, source: dict[str, Any], message: str) -> None:
        write(folder / "set", TEXTS)
        (folder / "damaged").mkdir()
        (folder / "damaged" / "train.jsonl").write_text('{"text": "half a')
        with pytest.raises(UserError, match=f"^{message}") as caught:
            settings({"path": "set", **source}).load(seed=0)
        assert "\n" not in str(caught.value)


def test_a_path_that_is_written_like_a_folder_is_never_asked_of_the_hub(folder: Path, no_network: None) -> None:
    with pytest.raises(ValueError, match=r"data.sources.path: no file or folder at"):
        settings({"path": "./set"}).load(seed=0)


def test_without_datasets_the_message_says_what_to_install(
    cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "set", TEXTS)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"data.sources.path: set needs the package datasets: pip install datasets"):
        settings({"path": "set"}).load(seed=0)


def test_at_least_one_source_is_needed() -> None:
    with pytest.raises(ValueError, match="give at least one"):
        HFText(sources=[])
