"""The base of every typed piece of a config file, and of everything a config can name.

Nothing here imports torch: a config is read, checked and listed in a fraction of a second.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from .errors import UserError
from .names import import_by_name, nearest


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
                    raise PydanticCustomError("unknown_key", "unknown key; {hint}", {"key": str(key), "hint": hint})
        return values


class Summarized(Settings):
    """Settings whose docstring's first line tells a user what they are."""

    @classmethod
    def summary(cls) -> str:
        """One line that says what the choice is."""
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
        """What the user's class gives for ``positional``, the keys of its section and ``keywords``.

        Raises:
            UserError: it cannot be imported, or refuses its arguments.
        """
        try:
            return import_by_name(self.name)(*positional, **self.arguments, **keywords)
        except TypeError as error:
            raise UserError(f"{self.name} refuses its arguments: {error}") from error
