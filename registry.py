"""Choosing an implementation by name: a table of settings classes, or a user's own ``package.module:Class``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Generic, TypeVar

from pydantic import PlainValidator, SerializeAsAny
from pydantic_core import PydanticCustomError

from .names import nearest
from .settings import CustomSettings, NamedSettings, Settings

Chosen = TypeVar("Chosen", bound=NamedSettings)


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
        """The pydantic type of a config section whose ``name`` chooses an entry."""
        return Annotated[SerializeAsAny[Settings], PlainValidator(self.choose)]

    def choose(self, section: Any) -> Chosen | CustomSettings:
        """The settings that a section of a config describes.

        Raises:
            pydantic.ValidationError: a key of the section is wrong.
            PydanticCustomError: the section has no name, or one that is not known.
        """
        if isinstance(section, NamedSettings | CustomSettings):
            return section  # type: ignore[return-value]  # an entry, made by a caller in Python
        if not isinstance(section, dict):
            raise PydanticCustomError("no_section", "expected a group of keys with a name")
        name = section.get("name")
        if name is None:
            raise PydanticCustomError("no_name", "missing; known: {known}", {"key": "name", "known": ", ".join(self)})
        if self.custom is not None and isinstance(name, str) and ":" in name:
            return self.custom.model_validate(section)
        if not isinstance(name, str) or name not in self._entries:
            given = f"{name!s:.60}" if isinstance(name, str) else "that"
            details = {"key": "name", "given": given, "hint": nearest(given, self)}
            raise PydanticCustomError("unknown_name", "{given} is not known; {hint}", details)
        return self._entries[name].model_validate(section)
