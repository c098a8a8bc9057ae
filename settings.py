"""The base of every typed section of a config file, and of everything a config chooses by name.

A name is an entry of a registry or a user's own ``package.module:Class``. Nothing here imports torch: a config is read,
checked and listed in a fraction of a second.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Generic, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainValidator,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from .errors import UserError, one_line


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint: the known name most similar to ``name``, or all of them where none is."""
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
    except Exception as error:  # a user's module may raise anything
        raise UserError(f"cannot import {name!r}: {one_line(error)}") from error


class Settings(BaseModel):
    """A frozen group of config keys; an unknown key is an error, a number written as text is a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: Any) -> Any:
        if isinstance(values, dict) and cls.model_config.get("extra") == "forbid":
            for key in values:
                if key not in cls.model_fields:
                    hint = nearest(str(key), cls.model_fields)
                    if isinstance(name := values.get("name"), str) and "name" in cls.model_fields:
                        hint += f" ({name})"
                    raise PydanticCustomError("unknown_key", "unknown key; {hint}", {"key": str(key), "hint": hint})
        return values

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_values_as_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Python and pydantic take true for 1."""
        parts = value if isinstance(value, list | tuple) else [value]
        truth = next((part for part in parts if isinstance(part, bool)), None)
        if truth is not None and info.field_name is not None:
            kinds = set(_kinds(cls.model_fields[info.field_name].annotation))
            if kinds & {int, float} and bool not in kinds:
                raise ValueError(f"should be a number, not the truth value {str(truth).lower()}")
        return value


def _kinds(annotation: Any) -> Iterator[Any]:
    """Every type in an annotation."""
    yield annotation
    for inner in get_args(annotation):
        yield from _kinds(inner)


class Summarized(Settings):
    """Settings that are described to users by the first line of their docstring."""

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]


class NamedSettings(Summarized):
    """Settings chosen by their ``name`` from a registry.

    The first line of the class's docstring and ``paper`` are what ``whyadam list`` prints.
    """

    paper: ClassVar[str] = ""
    name: str

    @model_serializer(mode="wrap")
    def _with_name(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Also where defaults are left out: the name says what the other keys mean.
        return {"name": self.name} | serialize(self)

    @classmethod
    def registry_name(cls) -> str:
        """The name a config writes to choose this class."""
        return str(cls.model_fields["name"].default)


class CustomSettings(Summarized):
    """A user's own class, named ``package.module:Class``; every other key is a keyword argument of it."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that the config gives to the class."""
        return dict(self.model_extra or {})

    def create(self, *positional: Any, **keywords: Any) -> Any:
        """The result of calling the user's class with ``positional``, the keys of its section and ``keywords``.

        Raises:
            UserError: it cannot be imported, or raises an error.
        """
        made_of = import_by_name(self.name)
        try:
            return made_of(*positional, **self.arguments, **keywords)
        except Exception as error:  # of the user's code
            verb = "refuses its arguments" if isinstance(error, TypeError | ValueError) else "cannot be made"
            raise UserError(f"{self.name} {verb}: {one_line(error)}") from error


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
            module, dot, attribute = given.rpartition(".")
            own = self.custom is not None and dot and all(part.isidentifier() for part in given.split("."))
            hint = f"did you mean {module}:{attribute}?" if own else nearest(given, self)
            details = {"key": "name", "given": given, "hint": hint}
            raise PydanticCustomError("unknown_name", "{given} is not known; {hint}", details)
        return self._entries[name].model_validate(section)
