"""Run the commands on standard input one after the other, in one process: torch is imported once.

Exits with the number of the first line that failed.
"""

from __future__ import annotations

import shlex
import sys

import pytest
from whyadam.cli import app

for number, line in enumerate(sys.stdin, start=1):
    program, *words = shlex.split(line, comments=True)
    code = (
        app(words, standalone_mode=False) if program == "whyadam" else pytest.main([*words, "-p", "no:cacheprovider"])
    )
    if code:
        sys.exit(number)
