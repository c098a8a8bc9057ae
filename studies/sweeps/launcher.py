"""What does the runs of a sweep: processes of this machine, or tasks on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from ...training.interruption import Interruption
from .trials import Trial

SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class Ended:
    """A run that is no longer at work.

    Attributes:
        trial: what was run.
        failure: the line that says why it failed; None where it ended as runs do, or by a signal to all.
    """

    trial: Trial
    failure: str | None


class Launcher(Protocol):
    """While entered, does runs; a first SIGINT or SIGTERM ends them after a last checkpoint.

    Attributes:
        interruption: the signal, once it has come.
    """

    interruption: Interruption

    @property
    def running(self) -> list[Trial]:
        """The runs at work."""

    def run(self, trials: Sequence[Trial], out: Path) -> Iterator[Ended | None]:
        """Do some runs, none of them twice, below ``out``.

        After a signal no other run begins.

        Yields:
            Each run when it has ended; in between, several times a second, None.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...
