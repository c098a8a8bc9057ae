"""SIGINT and SIGTERM, handled between two steps or in the middle of a measurement.

A second one ends a single process at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self


class Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """A run has stopped after a signal; the argument is the signal's number."""

    @property
    def signal(self) -> int:
        """The signal's number."""
        return int(self.args[0])


class _SignalHasCome(BaseException):
    """Raised by the handler; not an Exception, so that no code in between handles it."""


class Interruption:
    """A context that records the first SIGINT or SIGTERM instead of ending the process.

    Args:
        ignore_repeats: whether further signals are ignored: torchrun and the scheduler that started it both send one to
            each process, and torchrun kills those that take too long.

    Attributes:
        signal: the signal's number once one has come, None before.
    """

    def __init__(self, *, ignore_repeats: bool = False) -> None:
        self._ignore_repeats = ignore_repeats
        self._is_interruptible = False
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """The shell's convention: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + (self.signal or 0)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A context that a signal ends at once, or at its beginning if one has come already.

        Its body is left at any point, so it must change nothing but local state and files that are replaced as a whole.

        Raises:
            Interrupted: a signal has come.
        """
        if self.signal is not None:
            raise Interrupted(self.signal)
        try:
            self._is_interruptible = True
            yield
            self._is_interruptible = False
        except _SignalHasCome:
            pass
        except Exception:
            # A signal to the process group may first show as the loss of a worker process.
            if self.signal is None:
                raise
        finally:
            self._is_interruptible = False
        if self.signal is not None:
            raise Interrupted(self.signal)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        if not self._ignore_repeats:
            self._restore()
        if self._is_interruptible:
            self._is_interruptible = False
            raise _SignalHasCome

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)

    def __enter__(self) -> Self:
        # Only the main thread may set handlers.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
