"""The errors that every package may raise, and how any error, also one of a user's own code, is shown in one line."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class UserError(ValueError):
    """A mistake in a config, a command line or a data file; the message is one line that says what would be right."""


class DivergedError(ArithmeticError):
    """A loss or a gradient is NaN or infinite."""


def printable(text: str) -> str:
    """The text with control characters, such as escape sequences and line ends, written out."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def one_line(error: BaseException) -> str:
    """The message of any error in one line of at most 300 characters; its kind where it has none."""
    return printable(" ".join(str(error).split())[:300]) or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of an error that goes on for pages; its kind where it has no message."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


_OWN_PACKAGE = __name__.partition(".")[0]
_STANDARD_LIBRARY = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_INSTALLED = {"site-packages", "dist-packages"}


class UserCodeError(UserError):
    """A user's own code has raised an error or ended the process; the message is one line with file and line."""


@contextmanager
def user_code() -> Iterator[None]:
    """Turn an error out of a user's own code, and its ``sys.exit``, into a ``UserCodeError``.

    Errors that mean something to us pass through: ``OSError``, ``DivergedError``, and a ``UserError`` that our own code
    has raised.

    Raises:
        UserCodeError: the error, or one that it was raised from, came out of a module that is neither ours, nor of the
            standard library, nor installed.
    """
    try:
        yield
    except (UserCodeError, OSError, DivergedError):
        raise
    except (Exception, SystemExit) as error:
        place = _place(error)
        if place is None:
            raise
        raise UserCodeError(f"{place}: {_with_kind(error)}") from error


def describe_failure(error: Exception) -> tuple[str, int]:
    """One line on an error that ends a command, and the exit code: 2 for a user's mistake, 1 for anything else."""
    if isinstance(error, UserError | OSError):
        is_mistake = isinstance(error, UserError) and not isinstance(error, UserCodeError)
        return printable(str(error)), 2 if is_mistake else 1
    return f"{_with_kind(error)} (whyadam -v shows where)", 1


def _with_kind(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"ends the process with exit code {error.code!s:.60}"
    kind, text = type(error).__name__, one_line(error)
    return text if isinstance(error, UserError) or text == kind else f"{kind}: {text}"


def _place(error: BaseException) -> str | None:
    """``file:line`` of the innermost frame of a user's own module, in the error or in one that it was raised from."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        # Where our own code has found a mistake, what it was called from is not to blame.
        if not isinstance(cause, UserError):
            frames = list(traceback.walk_tb(cause.__traceback__))
            for frame, line in reversed(frames):
                if _is_a_users(frame):
                    return printable(f"{frame.f_code.co_filename}:{line}")
        cause = cause.__cause__
    return None


def _is_a_users(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    is_ours = str(frame.f_globals.get("__name__", "")).partition(".")[0] == _OWN_PACKAGE
    is_library = file.startswith(_STANDARD_LIBRARY) or not _INSTALLED.isdisjoint(Path(file).parts)
    # Compiled libraries have frames too: pyarrow/error.pxi. So have texts that are run: <string>.
    return not is_ours and not is_library and file.endswith(".py")
