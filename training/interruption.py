"""Ctrl-C and SIGTERM, noticed between two steps; a second one ends a process at once that trains alone."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class Interruption:
    """While entered, remembers the first SIGINT or SIGTERM instead of dying of it.

    Args:
        is_patient: whether the process lives on when more of them come. Both torchrun and what has started it send one
            to each process, and torchrun kills those that take too long.

    Attributes:
        signal: the signal's number once one has come, None before.
    """

    def __init__(self, *, is_patient: bool = False) -> None:
        self._is_patient = is_patient
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.signal or 0)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        if not self._is_patient:
            self._restore()

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)

    def __enter__(self) -> Self:
        # Only the main thread may set handlers; elsewhere the caller's own stay.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
