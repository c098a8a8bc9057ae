"""Cached files: built once, rebuilt when damaged, safe with two processes."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest
from whyadam.cache import cache_folder, cached_file, content_digest
from whyadam.errors import UserError


def write_hello(path: Path) -> None:
    path.write_text("hello")


def fail_to_build(path: Path) -> None:
    raise AssertionError("built a second time")


def test_a_file_is_built_once(cache: Path) -> None:
    path = cached_file("kind/key.txt", write_hello)
    assert path == cache / "kind" / "key.txt"
    assert cached_file("kind/key.txt", fail_to_build).read_text() == "hello"


@pytest.mark.parametrize("damage", ["flip", "truncate", "unseal", "delete"])
def test_a_damaged_file_is_rebuilt(cache: Path, damage: str) -> None:
    path = cached_file("key.txt", write_hello)
    if damage == "flip":
        path.write_text("jello")
    elif damage == "truncate":
        path.write_text("hel")
    elif damage == "unseal":
        path.with_name("key.txt.seal").unlink()
    else:
        path.unlink()
    assert cached_file("key.txt", write_hello).read_text() == "hello"


def test_a_build_that_fails_leaves_nothing_behind(cache: Path) -> None:
    def write_half(path: Path) -> None:
        path.write_text("hel")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        cached_file("key.txt", write_half)
    assert not [path for path in cache.iterdir() if path.suffix != ".lock"]
    assert cached_file("key.txt", write_hello).read_text() == "hello"


def _build_slowly(log: Path) -> None:
    def build(path: Path) -> None:
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.3)
        write_hello(path)

    assert cached_file("key.txt", build).read_text() == "hello"


def test_two_processes_at_once_build_once(cache: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [multiprocessing.get_context("fork").Process(target=_build_slowly, args=(log,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert log.read_text() == "built\n"


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WHYADAM_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"^WHYADAM_CACHE: .*file") as caught:
        cached_file("key.txt", write_hello)
    assert "\n" not in str(caught.value)


def test_without_the_variable_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WHYADAM_CACHE", raising=False)
    assert cache_folder().name == "whyadam"
    assert Path.home() in cache_folder().parents


def test_the_digest_tells_parts_apart() -> None:
    """Joining the parts to one string would give "a", "bc" and "ab", "c" one key."""
    assert (
        len({content_digest("a", "bc"), content_digest("ab", "c"), content_digest("abc"), content_digest("bc", "a")})
        == 4
    )
