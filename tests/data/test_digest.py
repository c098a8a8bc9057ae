"""The digest of data: the same for the same data, another one when any example changes."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from whyadam.data import DATA, Images
from whyadam.data import digest as digest_module
from whyadam.data.base import Key
from whyadam.data.digest import data_digest


def of(name: str, **keys: Any) -> str:
    digest = data_digest(DATA[name].model_validate(keys).load(seed=0))
    assert len(digest) == 32
    assert set(digest) <= set("0123456789abcdef")
    return digest


@pytest.mark.parametrize(
    ("name", "keys", "other"),
    [
        ("kjv", {"tokenizer": "char"}, {"evaluation_fraction": 0.2}),
        ("kjv_questions", {"tokenizer": "char"}, {"evaluation_questions": 199}),
        ("mnist5k", {}, {"evaluation_fraction": 0.3}),
        ("zipf", {}, {"sample": 1}),
        ("quadratic", {"blocks": [[1, 2]]}, {"noise_scale": 2.0}),
    ],
)
def test_embedded_data_have_one_digest_whatever_the_seed(name: str, keys: dict[str, Any], other: Any) -> None:
    source = DATA[name].model_validate(keys)
    loaded = source.load(seed=1)
    start = time.perf_counter()
    assert data_digest(loaded) == of(name, **keys)
    assert of(name, **keys, **other) != of(name, **keys)
    assert time.perf_counter() - start < 20
    start = time.perf_counter()
    data_digest(loaded)
    assert time.perf_counter() - start < 1


def test_one_character_of_a_text_changes_it_and_the_cache_does_not(
    cache: Path, folder: Path, book: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"path": "book.txt", "tokenizer": "char", "block_size": 16}
    (folder / "book.txt").write_text(book)
    first = of("text_file", **keys)
    shutil.rmtree(cache)
    assert of("text_file", **keys) == first
    for place in (0, -2):
        (folder / "book.txt").write_text(f"{book[:place]}x{book[place:][1:]}")
        assert of("text_file", **keys) != first
    (folder / "book.txt").write_text(book)
    monkeypatch.setattr("whyadam.data.corpus.tensor_digest", lambda _: pytest.fail("tokens were read again"))
    assert of("text_file", **keys) == first


def image_tree(root: Path, suffix: str = ".png") -> Path:
    generator = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("ant", "bee"):
            (root / part / name).mkdir(parents=True)
            for number in range(3):
                pixels = generator.integers(256, size=(8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}{suffix}")
    return root


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("part", ["train", "val"])
def test_images_count_by_content_name_and_class(cache: Path, tmp_path: Path, part: str, in_memory: bool) -> None:
    def digest(tree: Path) -> str:
        return of("image_folder", path=str(tree), image_size=8, in_memory=in_memory)

    tree = image_tree(tmp_path / "tree", ".bmp")
    first = digest(tree)
    shutil.copytree(tree, tmp_path / "copy")
    assert digest(tmp_path / "copy") == first
    file = tree / part / "bee" / "1.bmp"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # a file of the same size
    file.write_bytes(content)
    os.utime(file, (1, 1))
    assert digest(tree) != first
    moved = tmp_path / "copy" / part / "ant" / "2.bmp"
    moved.rename(moved.parents[1] / "bee" / "3.bmp")
    assert digest(tmp_path / "copy") != first


def test_of_too_many_files_the_sizes_count(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_module, "READ_BYTES", 0)
    monkeypatch.setattr(digest_module, "SAMPLED", 2)
    tree = image_tree(tmp_path / "tree")
    first = of("image_folder", path=str(tree), image_size=8)
    Image.new("RGB", (8, 8)).save(tree / "train" / "bee" / "2.png")
    assert of("image_folder", path=str(tree), image_size=8) != first


def test_a_questions_answer_changes_it(cache: Path) -> None:
    from dataclasses import replace

    data = DATA["kjv_questions"].model_validate({"tokenizer": "char", "questions": 20}).load(seed=0)
    first = data_digest(data)
    for part in ("train", "evaluation"):
        questions = getattr(data, part)
        other = replace(questions[7], answer_starts=(questions[7].answer_starts[0] + 1,))
        assert data_digest(replace(data, **{part: [*questions[:7], other, *questions[8:]]})) != first
    assert data_digest(replace(data, train=list(data.train))) == first


class Users:
    """A user's own examples: vectors of the given value, of which one may differ."""

    def __init__(self, count: int, odd: int | None = None, noise: bool = False) -> None:
        self.count, self.odd, self.noise = count, odd, noise

    def __len__(self) -> int:
        return self.count

    def batch(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        values = torch.tensor([[float(index + (index == self.odd))] for _, index in keys])
        if self.noise:
            values = values + torch.rand(1) + random.random() + float(np.random.rand())  # noqa: NPY002
        return {"images": values, "labels": torch.zeros(len(keys), dtype=torch.int64)}


def users_digest(train: Users, evaluation: Users) -> str:
    return data_digest(Images(train, evaluation, ("a",), 1))


def test_a_users_examples_count_by_what_they_yield() -> None:
    first = users_digest(Users(100), Users(10))
    assert users_digest(Users(100), Users(10)) == first
    assert users_digest(Users(100, odd=63), Users(10)) != first
    assert users_digest(Users(100), Users(10, odd=9)) != first
    assert users_digest(Users(99), Users(10)) != first
    assert users_digest(Users(100_000), Users(10)) != users_digest(Users(100_001), Users(10))


def test_examples_that_differ_each_time_have_a_digest_and_no_random_stream_moves() -> None:
    """Else such a run could never be resumed, or would have another dropout than without a digest."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    expected = [float(torch.rand(1)), random.random(), float(np.random.rand())]  # noqa: NPY002
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    first = users_digest(Users(20, noise=True), Users(10, noise=True))
    assert [float(torch.rand(1)), random.random(), float(np.random.rand())] == expected  # noqa: NPY002
    assert users_digest(Users(20, noise=True), Users(10, noise=True)) == first
    assert users_digest(Users(21, noise=True), Users(10, noise=True)) != first
