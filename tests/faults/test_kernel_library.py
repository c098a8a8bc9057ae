"""A shared library is loaded only if it is what was compiled, from a folder where nobody else can write."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from whyadam.errors import UserError
from whyadam.optimizers import kernels

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(kernels.find_compiler() is None, reason="there is no C++ compiler"),
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder; small source code, so that a compilation takes half a second."""
    source = tmp_path / "small.cpp"
    source.write_text('extern "C" double sum_of_squares(void) { return 42; }\n')
    monkeypatch.setattr(kernels, "SOURCE", source)
    monkeypatch.setenv("WHYADAM_CACHE", str(tmp_path / "cache"))
    kernels.load_kernels.cache_clear()
    yield tmp_path / "cache" / "kernels"
    kernels.load_kernels.cache_clear()


def answer() -> float:
    """What a fresh process would get: the library is loaded anew."""
    kernels.load_kernels.cache_clear()
    library = kernels.load_kernels()
    assert library is not None
    return float(library.sum_of_squares())


def plant(library: Path, tmp_path: Path) -> Path:
    """Another library in its place; loading it leaves a file behind."""
    mark = tmp_path / "planted-code-ran"
    source = tmp_path / "planted.cpp"
    source.write_text(
        "#include <cstdio>\n"
        f'__attribute__((constructor)) void ran() {{ if (FILE *file = fopen("{mark}", "w")) fclose(file); }}\n'
        'extern "C" double sum_of_squares(void) { return 13; }\n'
    )
    library.unlink()
    subprocess.run([*(kernels.find_compiler() or []), "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return mark


def test_it_is_compiled_once_into_a_private_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer() == 42
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    monkeypatch.setattr(kernels, "_compile", None)
    assert answer() == 42


@pytest.mark.parametrize(
    "damage", ["cut", "flipped", "empty", "no digest", "other digest", "a link", "a pipe", "planted"]
)
def test_a_library_that_is_not_what_was_compiled_is_compiled_anew(cache: Path, damage: str, tmp_path: Path) -> None:
    assert answer() == 42
    (library,) = cache.glob("*.so")
    content, digest = library.read_bytes(), library.with_name(library.name + ".digest")
    mark = tmp_path / "planted-code-ran"
    if damage == "planted":
        mark = plant(library, tmp_path)
    elif damage in ("a link", "a pipe"):
        mark = plant(library, tmp_path)
        library.rename(tmp_path / "elsewhere.so")
        library.symlink_to(tmp_path / "elsewhere.so") if damage == "a link" else os.mkfifo(library)
    elif damage == "no digest":
        digest.unlink()
    elif damage == "other digest":
        digest.write_text("0" * 64)
    else:
        library.unlink()
        flipped = content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]
        library.write_bytes({"cut": content[: len(content) // 2], "flipped": flipped, "empty": b""}[damage])
    assert answer() == 42
    assert not mark.exists()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_a_folder_where_others_can_write_is_left_alone(cache: Path, mode: int, tmp_path: Path) -> None:
    """Even with a digest that fits: whoever can write there can write both."""
    assert answer() == 42
    (library,) = cache.glob("*.so")
    mark = plant(library, tmp_path)
    library.with_name(library.name + ".digest").write_bytes(kernels._digest(library.read_bytes()))
    cache.chmod(mode)
    with pytest.warns(UserWarning, match="others can write there") as warned:
        assert answer() == 42
    assert len(warned) == 1
    assert not mark.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("given", ["folder", "library", "digest"])
def test_what_belongs_to_somebody_else_is_not_loaded(cache: Path, given: str, tmp_path: Path) -> None:
    assert answer() == 42
    (library,) = cache.glob("*.so")
    mark = plant(library, tmp_path)
    digest = library.with_name(library.name + ".digest")
    digest.write_bytes(kernels._digest(library.read_bytes()))
    os.chown({"folder": cache, "library": library, "digest": digest}[given], 65534, 65534)
    if given == "folder":
        with pytest.warns(UserWarning, match="belongs to somebody else"):
            assert answer() == 42
    else:
        assert answer() == 42
    assert not mark.exists()


def test_a_link_in_place_of_the_folder_is_not_followed(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    cache.parent.mkdir()
    cache.symlink_to(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match="compiled anew"):
        assert answer() == 42
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_compiler_that_hangs_is_ended_with_its_children(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver of a compiler leaves the work to another process, which holds the pipes."""
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\nsleep 300 &\necho $! > {tmp_path}/pid\nwait\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr(kernels, "PATIENCE", 1.0)
    start = time.monotonic()
    with pytest.warns(UserWarning, match="no C\\+\\+ kernels, torch.compile is tried instead: .*timed out"):
        assert kernels.load_kernels() is None
    assert time.monotonic() - start < 20
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]


def test_a_compiler_that_is_no_command_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "'g++")
    with pytest.raises(UserError, match=r"^CXX: 'g\+\+ is not a command"):
        kernels.find_compiler()


def test_forked_children_use_the_kernels_of_their_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenMP's threads stay in the parent; a child that waited for them would never end."""
    kernels.load_kernels.cache_clear()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    tensors = [torch.ones(300_000)]
    wanted = float(kernels.norm(tensors))
    pid = os.fork()
    if pid == 0:
        os._exit(0 if float(kernels.norm(tensors)) == pytest.approx(wanted, rel=1e-6) else 1)
    deadline = time.monotonic() + 30
    while (done := os.waitpid(pid, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    if done[0] == 0:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert done == (pid, 0)
    assert isinstance(kernels.load_kernels(), ctypes.CDLL)
