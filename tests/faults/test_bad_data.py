"""Data files that are damaged, empty or wrong: one line that names the file, and a run that says it failed."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from whyadam.configs.load import parse_experiment
from whyadam.data.squad import read_file
from whyadam.errors import UserError
from whyadam.training.run import run_experiment
from whyadam.training.run_folder import RunFolder

pytestmark = pytest.mark.faults


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WHYADAM_DATA", str(tmp_path))
    return tmp_path


def refusal(config: dict[str, Any], folder: Path) -> str:
    """The one line in which a run is refused; its status must say so too, and it must have no result."""
    experiment = parse_experiment(config, "test")
    with pytest.raises(UserError) as caught:
        run_experiment(experiment, folder / "out")
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    run = RunFolder.of(experiment, folder / "out")
    assert run.read_status()["state"] == "failed"
    assert not run.is_finished()
    assert not run.checkpoints.exists()
    return line


def image_tree(folder: Path) -> Path:
    """Four images of each of two classes, to train on and held out."""
    generator = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("ant", "bee"):
            (folder / "tree" / part / name).mkdir(parents=True)
            for number in range(4):
                pixels = generator.integers(256, size=(20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "tree" / part / name / f"{number}.png")
    return folder / "tree"


def images_config(config: dict[str, Any], **data: Any) -> dict[str, Any]:
    config["training"] |= {"batch_size": 8, "eval_examples": None, "steps": 4}
    return config | {"data": {"name": "image_folder", "path": "tree", "image_size": 16, "in_memory": True} | data}


def bomb(path: Path) -> None:
    """A PNG of a few bytes that says it is of 60,000 × 60,000 pixels."""
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    path.write_bytes(content)


DAMAGED_IMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no image"),
    "header alone": lambda path: path.write_bytes(path.read_bytes()[:40]),
    "bomb": bomb,
}


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("damage", DAMAGED_IMAGES)
def test_a_damaged_image_is_named(damage: str, in_memory: bool, mlp_config: dict[str, Any], folder: Path) -> None:
    """At the start if all are decoded then, else when it is needed, which here is at the first evaluation."""
    path = image_tree(folder) / "val" / "bee" / "2.png"
    DAMAGED_IMAGES[damage](path)
    assert f"cannot read the image {path}" in refusal(images_config(mlp_config, in_memory=in_memory), folder)


def test_a_damaged_image_is_named_by_a_worker_too(mlp_config: dict[str, Any], folder: Path) -> None:
    path = image_tree(folder) / "train" / "bee" / "2.png"
    path.write_bytes(b"")
    config = images_config(mlp_config, in_memory=False)
    config["training"]["workers"] = 1
    assert f"cannot read the image {path}" in refusal(config, folder)


def test_an_image_with_flipped_bits_is_read_or_named(folder: Path) -> None:
    from whyadam.data.images import read_image

    path = folder / "image.jpg"
    Image.fromarray(np.random.default_rng(0).integers(256, size=(24, 24, 3), dtype=np.uint8)).save(path)
    whole, generator = path.read_bytes(), random.Random(0)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(generator.randint(1, 5)):
            content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(content[: generator.choice([len(content), generator.randrange(len(content))])])
        try:
            assert read_image(str(path)).shape[0] == 3
        except UserError as error:
            assert str(path) in str(error)  # noqa: PT017  # either is right


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"good text \xff\xfe and more", "is not UTF-8 text"),
        ("½".encode("utf-16"), "is not UTF-8 text"),
        (b"too short for a block", "is too short: it has 2 tokens, and one example takes 17"),
    ],
)
def test_a_bad_text_is_named(content: bytes, reason: str, gpt2_config: dict[str, Any], folder: Path) -> None:
    (folder / "text.txt").write_bytes(content)
    data = {"name": "text_file", "path": "text.txt", "tokenizer": "char", "block_size": 16}
    line = refusal(gpt2_config | {"data": data}, folder)
    assert reason in line
    assert "text.txt" in line


def test_empty_splits_are_named(mlp_config: dict[str, Any], folder: Path) -> None:
    tree = image_tree(folder)
    for path in (tree / "val" / "bee").iterdir():
        path.unlink()
    assert "bee" in refusal(images_config(mlp_config), folder)


def test_fewer_images_than_a_batch_are_told(mlp_config: dict[str, Any], folder: Path) -> None:
    image_tree(folder)
    config = images_config(mlp_config)
    config["training"]["batch_size"] = 64
    assert refusal(config, folder).startswith("training.batch_size: 64 examples do not fit into the 8")


CONTEXT = "In 1900 the café was built by Ann."
QUESTIONS = {
    "version": "1.1",
    "data": [
        {
            "title": f"Town {number}",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {
                            "id": f"{number}-who",
                            "question": "Who built it?",
                            "answers": [{"text": "Ann", "answer_start": CONTEXT.index("Ann")}],
                        }
                    ],
                }
            ],
        }
        for number in range(3)
    ],
}


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in ((value, key), *places(value[key]))]


@st.composite
def damaged_questions(draw: st.DrawFn) -> bytes:
    """A file of the format with values replaced or left out, or with bytes changed."""
    values = deepcopy(QUESTIONS)
    for _ in range(draw(st.integers(1, 2))):
        container, key = draw(st.sampled_from(places(values)))
        if draw(st.booleans()) and isinstance(container, dict):
            del container[key]
        else:
            container[key] = draw(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
                | st.sampled_from([[], {}, [None], {"text": "Ann"}, 10**30, -1])
            )  # fmt: skip
        if not places(values):
            break
    content = bytearray(json.dumps(values).encode())
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 9))] = draw(st.binary(max_size=4))
    return bytes(content)


def try_questions(folder: Path, examples: int) -> None:
    path, read = folder / "questions.json", 0

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(damaged_questions())
    def check(content: bytes) -> None:
        nonlocal read
        path.write_bytes(content)
        refused = ""
        try:
            articles = read_file(str(path), "data.path")
        except UserError as error:
            refused = str(error)
        if refused:
            assert str(path) in refused
            assert len(refused.splitlines()) == 1
            return
        read += 1
        for question in (question for article in articles for question in article):
            assert isinstance(question.question, str)
            for answer, start in zip(question.answers, question.answer_starts, strict=True):
                assert question.context[start : start + len(answer)] == answer != ""
                assert start >= 0

    check()
    print(f"{read} of {examples} damaged question files could be read, the others were refused in one line")


def test_damaged_questions_are_named(folder: Path) -> None:
    try_questions(folder, 100)


@pytest.mark.slow
def test_a_thousand_damaged_question_files(folder: Path) -> None:
    try_questions(folder, 1000)


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"data": ' * 5000, b"1" * 10_000, b"null", b'{"data": []}', b'{"data": [{"paragraphs": []}]}'],
)
def test_absurd_questions_are_named(content: bytes, gpt2_config: dict[str, Any], folder: Path) -> None:
    (folder / "questions.json").write_bytes(content)
    config = gpt2_config | {
        "model": {"name": "bert_nano", "n_layer": 1, "n_embd": 16, "n_head": 2},
        "data": {"name": "squad", "path": "questions.json", "vocab_size": 300},
        "task": {"name": "question_answering", "max_length": 30, "stride": 5},
    }
    assert "questions.json" in refusal(config, folder)
