"""What is wrong with a config, in one line that names the key and the nearest valid name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import UserError, printable
from ..names import nearest

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


class ConfigError(UserError):
    """A config that cannot be run.

    Attributes:
        source: the file, or what was read.
        problems: one line each, beginning with the key where there is one.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(map(_shortened, problems))
        more = len(self.problems) - 1
        tail = f" (and {more} more: whyadam validate shows all)" if more else ""
        super().__init__(f"{source}: {self.problems[0]}{tail}")


def _shortened(problem: str) -> str:
    """In one line of bearable length, whatever a file's keys and values hold."""
    shown = printable(problem)
    return shown if len(shown) <= 500 else f"{shown[:500]}…"


def explain(error: ValidationError) -> list[str]:
    """One line for each key that pydantic found wrong."""
    by_key: dict[str, str] = {}
    for details in error.errors(include_url=False):
        key, line = _explain_one(details)
        by_key.setdefault(key or line, line)
    return list(by_key.values())


def _is_key(part: str) -> bool:
    # A plain union (batch_size: a number or "full") appends the branch it tried, which no user wrote.
    return part.isidentifier() and part not in ("int", "float")


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.60}"
    except ValueError:  # an integer of more digits than Python is willing to write
        return f"a {type(value).__name__} that is too long to show"


def _explain_one(details: ErrorDetails) -> tuple[str, str]:
    context = details.get("ctx", {})
    location = [str(part) for part in details["loc"] if isinstance(part, int) or _is_key(part)]
    if "key" in context:
        location.append(context["key"])
    key = ".".join(location)
    given = _shown(details["input"])
    match details["type"]:
        case "value_error" if not key:
            message = str(context["error"])
            return message.partition(":")[0], message
        case "value_error":
            message = str(context["error"])
        case "missing":
            message = "missing"
        case "unknown_key" | "unknown_name" | "no_name" | "no_section":
            message = details["msg"]
        case "literal_error":
            known = [name.strip(" '") for name in str(context["expected"]).replace(" or ", ", ").split(",")]
            hint = nearest(given.strip("'"), known)
            message = f"{given} is not one of {', '.join(known)}; {hint}"
        case _:
            reason = details["msg"].removeprefix("Input ")
            message = f"{reason[0].lower()}{reason[1:]}, got {given}"
    return key, f"{key}: {message}"
