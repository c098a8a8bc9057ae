"""Ctrl-C and SIGTERM, noticed between two steps or in the middle of a measurement.

A second one ends a process at once that trains alone.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self


class Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """A run was asked to stop and has stopped; the argument is the signal's number."""

    @property
    def signal(self) -> int:
        """The signal's number."""
        return int(self.args[0])


class _SignalHasCome(BaseException):
    """Raised by the handler; no error, so that nothing in between takes it for one."""


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
        self._stops_at_once = False
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.signal or 0)

    @contextmanager
    def stopping_at_once(self) -> Iterator[None]:
        """Leave this block as soon as a signal comes, or at its beginning if one has come already.

        It is left in the middle of whatever it does, so what it does must change nothing but itself and whole files.

        Raises:
            Interrupted: a signal has come.
        """
        if self.signal is not None:
            raise Interrupted(self.signal)
        try:
            self._stops_at_once = True
            yield
            self._stops_at_once = False
        except _SignalHasCome:
            pass
        except Exception:
            # Where the same signal goes to all processes of a group, the loss of a helper may be what is noticed first.
            if self.signal is None:
                raise
        finally:
            self._stops_at_once = False
        if self.signal is not None:
            raise Interrupted(self.signal)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        if not self._is_patient:
            self._restore()
        if self._stops_at_once:
            self._stops_at_once = False
            raise _SignalHasCome

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
