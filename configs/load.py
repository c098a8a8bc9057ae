"""From a YAML file and overrides to an Experiment, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .errors import ConfigError, explain
from .schema import Experiment
from .strict_yaml import parse, read_file

SHIPPED = Path(__file__).parent

UNIDENTIFYING: dict[str, Any] = {
    "name": True,
    "training": {"device", "workers", "checkpoint_every", "keep_checkpoints", "activation_checkpointing", "shard"},
    "hessian": {"processes"},
}
"""Keys that change no result: a run stays the same run when they change."""


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read a config file.

    Args:
        path: a YAML file.
        overrides: ``dotted.key=value`` each, the value in YAML, applied in order. A new ``name`` for a section
            (``optimizer.name=adam``) drops the other keys that the section had.

    Raises:
        ConfigError: the file cannot be read, or something in it or in the overrides is wrong.
    """
    values = read_yaml(path)
    for override in overrides:
        apply_change(values, *parse_override(override), source=f"-s {override}")
    return parse_experiment(values, source=str(path))


def parse_experiment(values: Mapping[str, Any], source: str) -> Experiment:
    """Check the values of a config.

    Raises:
        ConfigError: something is wrong; ``source`` begins its message.
    """
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        raise ConfigError(source, explain(error)) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a YAML file.

    Raises:
        ConfigError: it is missing, no text, no YAML, or no group of keys.
    """
    values = read_any_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(str(path), ["should be a group of keys (name, model, data, task, optimizer, training)"])
    return values


def read_any_yaml(path: Path) -> Any:
    """Whatever a YAML file holds.

    Raises:
        ConfigError: it is missing, no text, or no YAML.
    """
    try:
        return read_file(path)
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from None
    except ValueError as error:
        raise ConfigError(str(path), [str(error)]) from None


def dump_experiment(experiment: Experiment) -> str:
    """The resolved config as YAML, every default written out; ``load_experiment`` reads it back."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, default_flow_style=None)


def identity(experiment: Experiment) -> str:
    """Eight hexadecimal digits that stand for everything that may change the results.

    Keys left at their default are left out, so a key that a later version adds does not change old identities.
    """
    given = experiment.model_dump(mode="json", exclude_defaults=True, exclude=UNIDENTIFYING)
    text = json.dumps(given, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def parse_override(override: str) -> tuple[str, Any]:
    """The dotted key and the value of ``dotted.key=value``, the value in YAML.

    Raises:
        ConfigError: it is not of that form.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"-s {override}", ["should be dotted.key=value, such as optimizer.lr=1e-3"])
    return key, parse_value(text, source=f"-s {override}")


def parse_value(text: str, source: str) -> Any:
    """A value in YAML.

    Raises:
        ConfigError: it is none; ``source`` begins the message.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(source, [f"the value {error}"]) from None


def format_override(key: str, value: Any) -> str:
    """What ``parse_override`` reads as this key and this value."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    # A value that is no group or list ends in a line of three dots.
    return f"{key}={text.splitlines()[0]}"


def apply_change(values: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Change one value of a config that has been read.

    Args:
        values: of the config; changed in place.
        key: dotted. A new ``name`` for a section (``optimizer.name``) drops the other keys that the section had.
        value: as YAML gives it.
        source: begins the message of an error.

    Raises:
        ConfigError: the key leads through something that is no group of keys.
    """
    *sections, last = key.split(".")
    for section in sections:
        if values.get(section) is None:
            values[section] = {}
        inner = values[section]
        if not isinstance(inner, dict):
            raise ConfigError(source, [f"{section} is not a group of keys"])
        values = inner
    if sections and last == "name" and values.get("name") != value:
        # Another optimizer (model, data, task) starts from its own defaults: the old one's keys mean something else.
        values.clear()
    values[last] = deepcopy(value)
