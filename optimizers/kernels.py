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
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor, nn

from ..cache import cache_folder

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
    result: float = function(sizes, tensors, ctypes.c_int64(len(rows)), *arguments, torch.get_num_threads())
    return result


@functools.cache
def load_kernels() -> ctypes.CDLL | None:
    """The compiled kernels.

    Returns:
        None where there is no compiler, or where it fails, which one warning says.
    """
    compiler = find_compiler()
    if compiler is None:
        return None
    try:
        library = ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.CalledProcessError) as error:
        output = getattr(error, "stderr", None) or str(error)
        reason = next((line for line in output.splitlines() if "error" in line), output.strip().partition("\n")[0])
        warnings.warn(f"fused=True: no C++ kernels, torch.compile is tried instead: {reason}", stacklevel=2)
        return None
    library.sum_of_squares.restype = ctypes.c_double
    return library


def find_compiler() -> list[str] | None:
    """The C++ compiler as the start of a command: that of the environment variable CXX, or one found on the path."""
    for name in (os.environ.get("CXX", ""), *_COMPILERS):
        command = shlex.split(name)
        if command and shutil.which(command[0]):
            return command
    return None


def _compiled(compiler: list[str]) -> Path:
    """The library, compiled unless that was done before; two processes that need it at once compile it once."""
    command = [*compiler, *_FLAGS, *_flags_of_this_machine()]
    digest = hashlib.blake2b(digest_size=8)
    for part in (*command, platform.platform(), SOURCE.read_text(encoding="utf-8")):
        digest.update(part.encode() + b"\0")
    folder = cache_folder() / "kernels"
    library = folder / f"{digest.hexdigest()}.so"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(library.with_suffix(".lock")):
        if not library.exists():
            unfinished = library.with_suffix(".unfinished")
            subprocess.run([*command, "-o", unfinished, SOURCE], check=True, capture_output=True, text=True)
            unfinished.replace(library)
    return library


def _flags_of_this_machine() -> list[str]:
    """Threads where compilers have them, and the instructions that torch itself uses on this processor."""
    threads = ["-fopenmp"] if sys.platform == "linux" else []
    instructions = {"AVX2": _AVX2, "AVX512": _AVX2 + _AVX512}
    return threads + instructions.get(torch.backends.cpu.get_cpu_capability(), [])
