"""Complete optimizer steps in C++: ``kernels.cpp``, compiled on first use and kept in the user's cache folder."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import os
import platform
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor, nn

from ..cache import cache_folder
from ..errors import UserError
from ..files import open_to_read, replacing

PATIENCE = 60.0
"""Seconds that a compiler may take; the kernels take it a few."""

SOURCE = Path(__file__).with_name("kernels.cpp")

_COMPILERS = ("c++", "g++", "clang++")

# No flag may change a result: these only free the compiler of errno and of floating-point traps.
_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math"]
_AVX2 = ["-mavx2", "-mfma", "-mtune=native"]
_AVX512 = ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mprefer-vector-width=512"]


@dataclass(frozen=True)
class Kernel:
    """A function of ``kernels.cpp`` by name, the states that it updates and the rule's own numbers, in its order."""

    name: str
    states: tuple[str, ...]
    numbers: tuple[float, ...]


def takes(tensor: Tensor) -> bool:
    """Whether the kernels work on this tensor: plain, contiguous float32 in a CPU's memory."""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.is_cpu
        and tensor.dtype == torch.float32
        and tensor.is_contiguous()
    )


def update(name: str, rows: Sequence[Sequence[Tensor]], numbers: Sequence[float]) -> None:
    """One step of one rule.

    Args:
        name: of the function.
        rows: each parameter with its gradient and its states; all of them tensors that ``takes`` allows.
        numbers: lr, lr · weight_decay, the gradient's sign and the rule's own, as ``kernels.cpp`` says.
    """
    _call(name, rows, (ctypes.c_float * len(numbers))(*numbers))


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all tensors together, 0-dimensional."""
    return torch.tensor(math.sqrt(_call("sum_of_squares", [(tensor,) for tensor in tensors])))


def _call(name: str, rows: Sequence[Sequence[Tensor]], *arguments: object) -> float:
    """Call a function on tensors; what it returns if it returns a number."""
    library = load_kernels()
    assert library is not None
    sizes = (ctypes.c_int64 * len(rows))(*(row[0].numel() for row in rows))
    addresses = [tensor.data_ptr() for row in rows for tensor in row]
    tensors = (ctypes.c_void_p * len(addresses))(*addresses)
    function = getattr(library, name)
    result: float = function(sizes, tensors, ctypes.c_int64(len(rows)), *arguments, _number_of_threads())
    return result


_forked = False


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def _number_of_threads() -> int:
    """One in a forked child: OpenMP's other threads have stayed in its parent, and waiting for them takes for ever."""
    return 1 if _forked else torch.get_num_threads()


@functools.cache
def load_kernels() -> ctypes.CDLL | None:
    """The compiled kernels.

    A library is code. It is loaded only if it is what was compiled here, out of a folder that belongs to this user and
    in which nobody else can write; where the cache folder is not like that, it is compiled into a folder of its own.

    Returns:
        None where there is no compiler, or where it fails or takes longer than ``PATIENCE``, which one warning says.
    """
    compiler = find_compiler()
    if compiler is None:
        return None
    try:
        library = _load(compiler)
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None) or str(error)
        reason = next((line for line in output.splitlines() if "error" in line), output.strip().partition("\n")[0])
        warnings.warn(f"fused=True: no C++ kernels, torch.compile is tried instead: {reason}", stacklevel=2)
        return None
    library.sum_of_squares.restype = ctypes.c_double
    return library


def find_compiler() -> list[str] | None:
    """The C++ compiler as the start of a command: that of the environment variable CXX, or one found on the path."""
    for name in (os.environ.get("CXX", ""), *_COMPILERS):
        try:
            command = shlex.split(name)
        except ValueError as error:
            raise UserError(f"CXX: {name} is not a command: {error}") from None
        if command and shutil.which(command[0]):
            return command
    return None


def _load(compiler: list[str]) -> ctypes.CDLL:
    """The library out of the cache, compiled unless that was done before; two processes compile it once."""
    command = [*compiler, *_FLAGS, *_flags_of_this_machine()]
    program = Path(shutil.which(command[0]) or command[0]).resolve()
    version = f"{program} {program.stat().st_size} {program.stat().st_mtime_ns}"
    digest = hashlib.blake2b(digest_size=8)
    for part in (*command, version, platform.platform(), SOURCE.read_text(encoding="utf-8")):
        digest.update(part.encode() + b"\0")
    name = f"{digest.hexdigest()}.so"
    folder = cache_folder() / "kernels"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not _is_private(folder):
        warnings.warn(
            f"{folder}: belongs to somebody else, or others can write there; the C++ kernels are compiled anew instead "
            "(chmod go-w, or another WHYADAM_CACHE)",
            stacklevel=3,
        )
        with tempfile.TemporaryDirectory(prefix="whyadam-kernels-") as own:
            return _load_from(Path(own), name, command)
    return _load_from(folder, name, command)


def _load_from(folder: Path, name: str, command: list[str]) -> ctypes.CDLL:
    with FileLock(folder / f"{name}.lock", timeout=2 * PATIENCE):
        library = _load_intact(folder, name)
        if library is None:
            unfinished = folder / f"{name}.unfinished"
            unfinished.unlink(missing_ok=True)
            _compile([*command, "-o", str(unfinished), str(SOURCE)])
            unfinished.chmod(0o700)
            with replacing(folder / f"{name}.digest") as seal:
                os.chmod(seal.fileno() if os.chmod in os.supports_fd else seal.name, 0o600)
                seal.write(_digest(unfinished.read_bytes()))
            unfinished.replace(folder / name)
            library = _load_intact(folder, name)
    if library is None:
        raise OSError(f"{folder / name}: is not what was compiled")
    return library


def _load_intact(folder: Path, name: str) -> ctypes.CDLL | None:
    """Load a library if its bytes are those that were compiled, and nobody else can have written them."""
    try:
        with open_to_read(folder / name, follow=False) as file, open_to_read(folder / f"{name}.digest") as seal:
            content = file.read()
            if not (_is_ours(file.fileno()) and _is_ours(seal.fileno()) and seal.read() == _digest(content)):
                return None
    except OSError:
        return None
    # A copy: what was checked is what is loaded, and stays so if the file is cut while it is in use.
    with tempfile.TemporaryDirectory(prefix="load-", dir=folder) as own:
        copy = Path(own) / name
        copy.write_bytes(content)
        return ctypes.CDLL(str(copy))


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=32).hexdigest().encode()


def _is_private(folder: Path) -> bool:
    """Whether a folder, and no link to one, belongs to this user and nobody else can write there."""
    if not hasattr(os, "geteuid"):
        return True
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return _is_ours(descriptor)
    finally:
        os.close(descriptor)


def _is_ours(descriptor: int) -> bool:
    if not hasattr(os, "geteuid"):
        return True
    status = os.fstat(descriptor)
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _compile(command: list[str]) -> None:
    """Run a compiler, and end it with all its parts if it takes too long.

    Raises:
        subprocess.SubprocessError: it fails or takes too long.
        OSError: it cannot be run.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=PATIENCE)
    except BaseException:
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.communicate()
        raise
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command, output, errors)


def _flags_of_this_machine() -> list[str]:
    """Threads where compilers have them, and the instructions that torch itself uses on this processor."""
    threads = ["-fopenmp"] if sys.platform == "linux" else []
    instructions = {"AVX2": _AVX2, "AVX512": _AVX2 + _AVX512}
    return threads + instructions.get(torch.backends.cpu.get_cpu_capability(), [])
