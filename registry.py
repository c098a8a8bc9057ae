"""Choosing an implementation by name: a table of settings classes, or a user's own ``package.module:Class``."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Generic, TypeVar, Union

from pydantic import Discriminator, Tag

from .settings import CustomSettings, NamedSettings

Chosen = TypeVar("Chosen", bound=NamedSettings)

CUSTOM = "package.module:Class"


class Registry(Generic[Chosen]):
    """The settings classes that a config may choose by ``name``, in the order in which they are listed."""

    def __init__(self, kind: str, entries: Iterable[type[Chosen]], custom: type[CustomSettings] | None = None) -> None:
        self.kind = kind
        self.custom = custom
        self._entries = {entry.registry_name(): entry for entry in entries}

    def __getitem__(self, name: str) -> type[Chosen]:
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> Iterable[tuple[str, type[Chosen]]]:
        """Names with their settings classes."""
        return self._entries.items()

    def as_field(self) -> Any:
        """The pydantic type of a config section: a union of all entries, told apart by ``name``."""
        choices = [Annotated[entry, Tag(name)] for name, entry in self.items()]
        if self.custom is not None:
            choices.append(Annotated[self.custom, Tag(CUSTOM)])
        return Annotated[Union[tuple(choices)], Discriminator(self._tag)]  # noqa: UP007 - built from a list

    def _tag(self, value: Any) -> str | None:
        name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
        if not isinstance(name, str):
            return None
        return CUSTOM if ":" in name else name


def import_by_name(name: str) -> Any:
    """The object that ``package.module:attribute`` names.

    Raises:
        ValueError: the module or the attribute does not exist; the message is one line.
    """
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot import {name!r}: {error}") from error
