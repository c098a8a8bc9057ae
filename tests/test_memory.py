"""Freed memory stays with the process, unless the environment says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS_OF_A_LATER_TENSOR = """
import resource, sys
from whyadam.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
import torch
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(30):  # a few, until there is enough of it in one piece
    torch.ones(2**24)
before = faults()
torch.ones(2**24)
print(faults() - before)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these options")


def faults(how: str, **environment: str) -> int:
    """Pages that the system had to give anew for one of many tensors of 64 MiB."""
    command = [sys.executable, "-c", FAULTS_OF_A_LATER_TENSOR, how]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "THP_"))}
    done = subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_the_next_tensor_takes_the_memory_of_the_last() -> None:
    """Catches options that have no effect; without them the system gives all pages anew."""
    assert faults("plain", THP_MEM_ALLOC_ENABLE="0") > 10_000
    assert faults("kept", THP_MEM_ALLOC_ENABLE="0") < 100


def test_what_the_environment_sets_is_left_alone() -> None:
    assert faults("kept", THP_MEM_ALLOC_ENABLE="0", MALLOC_MMAP_MAX_="65536") > 10_000
