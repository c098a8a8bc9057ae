"""Questions: every answer where it is said to be, whole articles held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from whyadam.data import squad as squad_format
from whyadam.data.base import Question
from whyadam.data.squad import SQuAD
from whyadam.errors import UserError


def article(number: int) -> dict[str, Any]:
    context = f"In {1900 + number} the café of town {number} was built by Ann."
    answers = [{"text": "Ann", "answer_start": context.index("Ann")}] * 2
    qas = [
        {"id": f"{number}-when", "question": "When?", "answers": [{"text": str(1900 + number), "answer_start": 3}]},
        {"id": f"{number}-who", "question": "Who built it?", "answers": answers},
    ]
    return {"title": f"Town {number}", "paragraphs": [{"context": context, "qas": qas}]}


def write(path: Path, articles: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"version": "1.1", "data": articles}), encoding="utf-8")


@pytest.fixture
def towns(folder: Path) -> Path:
    write(folder / "towns.json", [article(number) for number in range(10)])
    return folder / "towns.json"


def load(**keys: Any) -> Any:
    return SQuAD(**{"path": "towns.json", "vocab_size": 300, **keys}).load(seed=0)


def test_questions_keep_all_that_the_file_says(cache: Path, towns: Path, no_network: None) -> None:
    first = load().train[1]
    context = "In 1900 the café of town 0 was built by Ann."
    assert first == Question("0-who", context, "Who built it?", ("Ann", "Ann"), (40, 40))


def test_the_last_articles_are_held_out_whole(cache: Path, towns: Path) -> None:
    questions = load(evaluation_fraction=0.2)
    assert [question.id for question in questions.evaluation] == ["8-when", "8-who", "9-when", "9-who"]
    assert len(questions.train) == 16
    assert not {q.context for q in questions.train} & {q.context for q in questions.evaluation}


def test_a_file_of_its_own_may_be_held_out(cache: Path, towns: Path, folder: Path) -> None:
    write(folder / "other.json", [article(77)])
    questions = load(evaluation_path="other.json")
    assert (len(questions.train), len(questions.evaluation)) == (20, 2)


def test_the_tokenizer_knows_the_training_part_only(cache: Path, towns: Path, folder: Path) -> None:
    write(folder / "other.json", [article(77)])
    tokenizer = load(evaluation_path="other.json", tokenizer="char").tokenizer
    assert tokenizer.decode(tokenizer.encode("Who café?")) == "Who café?"
    assert tokenizer.decode(tokenizer.encode("z")) == "[UNK]"


def test_the_hub_gives_the_same_questions(cache: Path, towns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(path: str, key: str, split: str) -> list[dict[str, Any]]:
        assert (path, key) == ("some/squad", "data.hub")
        numbers = range(8) if split == "train" else range(8, 10)
        paragraphs = [paragraph for number in numbers for paragraph in article(number)["paragraphs"]]
        return [
            {
                "id": entry["id"],
                "context": paragraph["context"],
                "question": entry["question"],
                "answers": {
                    "text": [answer["text"] for answer in entry["answers"]],
                    "answer_start": [answer["answer_start"] for answer in entry["answers"]],
                },
            }
            for paragraph in paragraphs
            for entry in paragraph["qas"]
        ]

    from_file = load(evaluation_fraction=0.2)
    monkeypatch.setattr(squad_format, "rows", rows)
    from_hub = load(path=None, hub="some/squad")
    assert (from_hub.train, from_hub.evaluation) == (from_file.train, from_file.evaluation)


def _moved(content: dict[str, Any]) -> None:
    content["data"][1]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] = 4


def _empty(content: dict[str, Any]) -> None:
    content["data"][1]["paragraphs"][0]["qas"][0]["answers"][0]["text"] = ""


def _unanswered(content: dict[str, Any]) -> None:
    content["data"][1]["paragraphs"][0]["qas"][0]["answers"] = []


def _blank(content: dict[str, Any]) -> None:
    content["data"][1]["paragraphs"][0]["qas"][0]["answers"][0] = {"text": " ", "answer_start": 2}


def _impossible(content: dict[str, Any]) -> None:
    content["data"][1]["paragraphs"][0]["qas"][0] |= {"is_impossible": True, "answers": []}


def _impossible_without_answers(content: dict[str, Any]) -> None:
    content["data"][1]["paragraphs"][0]["qas"][0]["is_impossible"] = True
    del content["data"][1]["paragraphs"][0]["qas"][0]["answers"]


def _half_in_question(content: dict[str, Any]) -> None:
    content["data"][1]["paragraphs"][0]["qas"][0]["question"] = "When?\ud83d"


def _half_in_context(content: dict[str, Any]) -> None:
    content["data"][1]["paragraphs"][0]["context"] = "\ude00 in 1901"


def _number_for_context(content: dict[str, Any]) -> None:
    content["data"][1]["paragraphs"][0]["context"] = 7


def _without_data(content: dict[str, Any]) -> None:
    content["rows"] = content.pop("data")


def _list_for_article(content: dict[str, Any]) -> None:
    content["data"][0] = ["a"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_moved, "question 1-when: '1901' is not at character 4 of its context"),
        (_empty, "question 1-when: its answer '' is blank"),
        (_blank, "question 1-when: its answer ' ' is blank"),
        (_unanswered, "question 1-when has no answer, which only SQuAD v2 allows"),
        (_impossible, "question 1-when has is_impossible, as in SQuAD v2; leave out"),
        (_impossible_without_answers, "question 1-when has is_impossible, as in SQuAD v2; leave out"),
        (_half_in_question, r"question 1-when: its question has half a character \(\\ud83d\) at character 5"),
        (_half_in_context, r"question 1-when: its context has half a character \(\\ude00\) at character 0"),
        (_number_for_context, "question 1-when: its context is 7, not a text"),
        (_without_data, r"is not in the format of SQuAD v1.1: KeyError\('data'\)"),
        (_list_for_article, r"is not in the format of SQuAD v1.1: TypeError"),
    ],
)
def test_a_wrong_file_is_one_line_with_its_name(towns: Path, damage: Any, message: str) -> None:
    content = json.loads(towns.read_text())
    damage(content)
    towns.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"^data.path: .*towns.json:? {message}") as caught:
        load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "message"), [(b"{", "is not JSON"), (b'{"data": "\xff"}', "is not UTF-8 text")])
def test_a_file_that_is_no_json_is_one_line(towns: Path, content: bytes, message: str) -> None:
    towns.write_bytes(content)
    with pytest.raises(UserError, match=rf"^data.path: .*towns.json {message}") as caught:
        load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"path": "no.json"}, r"data.path: no file or folder at .*no.json"),
        ({"evaluation_path": "no.json"}, r"data.evaluation_path: no file or folder"),
        ({"evaluation_fraction": 0.01}, r"data.evaluation_fraction: towns.json has 10 articles; one part has none"),
        ({"path": None}, r"give either path or hub"),
        ({"hub": "rajpurkar/squad"}, r"give either path or hub"),
        ({"path": None, "hub": "rajpurkar/squad", "evaluation_path": "a.json"}, r"evaluation_path goes with path"),
    ],
)
def test_wrong_keys_are_named(towns: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(**keys)


def test_real_questions(data_folder: Path, cache: Path) -> None:
    """XQuAD, in English."""
    articles = squad_format.read_file("xquad.en.json", "data.path")
    questions = [question for article in articles for question in article]
    assert (len(articles), len(questions)) == (48, 1190)
    assert len({question.context for question in questions}) == 240
    for question in questions:
        for text, start in zip(question.answers, question.answer_starts, strict=True):
            assert question.context[start:].startswith(text)
    loaded = SQuAD(path="xquad.en.json", evaluation_fraction=0.25).load(seed=0)
    assert loaded.train + loaded.evaluation == questions
    assert not {q.context for q in loaded.train} & {q.context for q in loaded.evaluation}
    assert 1000 < loaded.tokenizer.vocab_size <= 4096
