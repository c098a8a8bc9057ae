"""What a name stands for, and helping with one that is not known."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from .errors import UserError


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint: the known name most like ``name``, or all of them where none is."""
    known = list(known)
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def import_by_name(name: str) -> Any:
    """The object that ``package.module:attribute`` names.

    Raises:
        UserError: the module or the attribute does not exist.
    """
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"cannot import {name!r}: {error}") from error
