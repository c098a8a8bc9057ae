"""From a YAML file and overrides to an Experiment, and back; whatever is wrong is one line that names the key.

The YAML of configs holds plain values: no key twice, and nothing that grows when it is read.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from ..errors import UserError, printable
from ..settings import nearest
from .schema import DATA, MODELS, OPTIMIZERS, TASKS, Experiment, HessianSettings, NoiseSettings, Schedule, Training

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SHIPPED = Path(__file__).parent

CHOSEN_BY_NAME = ("model", "data", "task", "optimizer", "training.inject_noise.law")
"""Sections whose ``name`` says what their other keys mean."""

UNIDENTIFYING: dict[str, Any] = {
    "name": True,
    "training": {"device", "workers", "checkpoint_every", "keep_checkpoints", "activation_checkpointing", "shard"},
    "hessian": {"processes"},
}
"""Keys that change no result: a run stays the same run when they change."""

LARGEST_FILE = 2**18
"""Bytes; the largest shipped config has 2,000, and PyYAML takes seconds for this many."""

MOST_VALUES = 10_000
"""Aliases let a file of 500 bytes stand for billions of values."""


class ConfigError(UserError):
    """A config that cannot be run.

    Attributes:
        source: the file, or what was read.
        problems: one line each, beginning with the key where there is one.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        lines = map(printable, problems)
        self.problems = tuple(line if len(line) <= 500 else f"{line[:500]}…" for line in lines)
        more = len(self.problems) - 1
        tail = f" (and {more} more: whyadam validate shows all)" if more else ""
        super().__init__(f"{source}: {self.problems[0]}{tail}")


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read a config file.

    Args:
        path: a YAML file, or the name of a shipped config (see ``config_path``).
        overrides: ``dotted.key=value`` each, the value in YAML; see ``apply_changes``. The keys of the file that they
            drop are listed on stderr.

    Raises:
        ConfigError: the file cannot be read, or something in it or in the overrides is wrong.
    """
    values = read_yaml(path)
    changes = [parse_override(override) for override in overrides]
    dropped = apply_changes(values, merge_changes(changes))
    experiment = parse_experiment(values, source=str(path))
    for line in dropped:
        print(f"{path}: {line}", file=sys.stderr)
    return experiment


def parse_experiment(values: Mapping[str, Any], source: str) -> Experiment:
    """Check the values of a config.

    Raises:
        ConfigError: something is wrong; ``source`` begins its message.
    """
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        raise ConfigError(source, explain(error)) from None


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


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a YAML file.

    Raises:
        ConfigError: it is missing, no text, no YAML, or no group of keys.
    """
    values = read_any_yaml(config_path(path))
    if not isinstance(values, dict):
        raise ConfigError(str(path), ["should be a group of keys (name, model, data, task, optimizer, training)"])
    return values


def read_any_yaml(path: Path) -> Any:
    """Whatever a YAML file holds.

    Raises:
        ConfigError: it is missing, no text, or no YAML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ValueError(f"has more than {LARGEST_FILE} bytes, no config is that large")
        return _parse_yaml(content.decode("utf-8"))
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = "is not a UTF-8 text file"
    except ValueError as error:
        problem = str(error)
    raise ConfigError(str(path), [problem])


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
        return _parse_yaml(text)
    except ValueError as error:
        raise ConfigError(source, [f"the value {error}"]) from None


def config_path(name: str | Path, *folders: Path) -> Path:
    """The file of a config: a path of the user's own, or the name of one that comes with whyadam.

    The suffix .yaml may be left out. A path is looked up in ``folders``, then in the working folder; a name such as
    ``quick/mlp_mnist5k`` is valid everywhere.

    Raises:
        ConfigError: there is none; the message has the most similar name.
    """
    shipped = [SHIPPED / str(name).removeprefix("configs/")]
    for path in (*(folder / name for folder in folders), Path(name), *shipped):
        for candidate in (path, path.parent / f"{path.name}.yaml"):
            # Not is_file: a pipe is a config, too.
            if candidate.exists() and not candidate.is_dir():
                return candidate
    reason = "Is a directory" if Path(name).is_dir() else "No such file or directory"
    close = get_close_matches(str(name).removesuffix(".yaml"), shipped_configs(), n=1)
    hint = f"; did you mean {close[0]}?" if close else "; see `whyadam list configs`" if not Path(name).suffix else ""
    raise ConfigError(str(name), [f"cannot be read: {reason}{hint}"])


def shipped_configs() -> list[str]:
    """The names of the configs that come with whyadam, such as ``quick/mlp_mnist5k``."""
    return [path.relative_to(SHIPPED).with_suffix("").as_posix() for path in sorted(SHIPPED.glob("*/*.yaml"))]


ALIASES = {"learning_rate": "lr", "epoch": "epochs", "num_epochs": "epochs", "max_steps": "steps", "bs": "batch_size"}
"""What other programs call a key."""


def _full_keys(key: str) -> list[str]:
    """The keys of a config that end like ``key``, or that it is another name of; without ``key`` itself."""
    section, _, last = key.rpartition(".")
    ending = ALIASES.get(last, last)
    fields: dict[str, Iterable[str]] = {
        "": Experiment.model_fields,
        "training": Training.model_fields,
        "schedule": Schedule.model_fields,
        "noise": NoiseSettings.model_fields,
        "hessian": HessianSettings.model_fields,
    }
    for name, registry in (("optimizer", OPTIMIZERS), ("model", MODELS), ("data", DATA), ("task", TASKS)):
        fields[name] = [field for _, entry in registry.items() for field in entry.model_fields]
    # The own section first: optimizer.learning_rate is optimizer.lr.
    ordered = sorted(fields, key=lambda name: name != section)
    found = [f"{name}.{ending}".removeprefix(".") for name in ordered if ending in fields[name]]
    return [full for full in found if full != key]


def format_override(key: str, value: Any) -> str:
    """What ``parse_override`` reads as this key and this value."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    # A value that is no group or list ends in a line of three dots.
    return f"{key}={text.splitlines()[0]}"


Changes = Sequence[tuple[str, Any]]
"""Values by dotted key that a user gives besides a file."""


def merge_changes(*layers: Changes, source: str = "-s") -> dict[str, Any]:
    """Changes that do not contradict each other, whose order does not matter.

    A group of keys (``optimizer={name: adam, lr: 0.1}``) becomes an empty group, which stands for a new beginning, and
    one change for each of its keys. Of two changes of one key the last one holds, and one that is no group voids what
    earlier layers say of keys in it (``noise=null``).

    Args:
        layers: the later ones hold against the earlier ones.
        source: begins the message of an error.

    Raises:
        ConfigError: within one layer a key is both a value and a group of keys.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        expanded = dict(change for key, value in layer for change in _expanded(key, value))
        for key, value in expanded.items():
            inner = next((other for other in expanded if other.startswith(f"{key}.")), None)
            if inner is not None and not isinstance(value, dict):
                both = f"{format_override(key, value)} and {format_override(inner, expanded[inner])}"
                raise ConfigError(source, [f"{both} contradict each other: {key} is not a group of keys"])
            if not isinstance(value, dict):
                merged = {known: of for known, of in merged.items() if not known.startswith(f"{key}.")}
            merged[key] = value
    return merged


def _expanded(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and all(isinstance(inner, str) and "." not in inner for inner in value):
        yield key, {}
        for inner, its in value.items():
            yield from _expanded(f"{key}.{inner}", its)
    else:
        yield key, value


def apply_changes(values: dict[str, Any], changes: Mapping[str, Any], source: str = "") -> list[str]:
    """Change a config that has been read, in place: names of sections first, then everything else.

    A new ``name`` for a section (``optimizer.name=adam``) drops the keys that the file gives for it, which mean
    something else there; but a user's own optimizer keeps the file's ``lr``.

    Args:
        values: of the config.
        changes: as ``merge_changes`` gives them.
        source: begins the message of an error; the override itself by default.

    Returns:
        One line for each section of which keys of the file are dropped.

    Raises:
        ConfigError: a key leads through something that is no group of keys, or a user's own optimizer gets no lr.
    """
    dropped: dict[str, dict[str, Any]] = {}
    # Groups before what is in them, names before their neighbours.
    for key, value in sorted(changes.items(), key=lambda change: (change[0].count("."), change[0][-5:] != ".name")):
        *sections, last = key.split(".")
        group = values
        for section in sections:
            if group.get(section) is None:
                group[section] = {}
            group = group[section]
            if not isinstance(group, dict):
                label = source or f"-s {format_override(key, value)}"
                raise ConfigError(label, [f"{section} is not a group of keys"])
        path = ".".join(sections)
        if last == "name" and path in CHOSEN_BY_NAME and group.get("name") != value:
            kept = {"lr": group["lr"]} if path == "optimizer" and is_own_class(value) and "lr" in group else {}
            dropped.setdefault(path, {}).update({k: v for k, v in group.items() if k != "name" and k not in kept})
            group.clear()
            group.update(kept)
            if path == "optimizer" and is_own_class(value) and not kept and "optimizer.lr" not in changes:
                label = source or f"-s {format_override(key, value)}"
                raise ConfigError(label, [f"optimizer.lr: missing; give the learning rate of {value}"])
        if isinstance(value, dict) and isinstance(group.get(last), dict):
            dropped.setdefault(key, {}).update({k: v for k, v in group[last].items() if k != "name"})
        group[last] = deepcopy(value)
    return [line for section, keys in dropped.items() if (line := _dropped(values, changes, section, keys))]


def is_own_class(name: object) -> bool:
    """Whether the name of a section stands for a class of the user's, ``package.module:Class``."""
    return isinstance(name, str) and ":" in name


def _dropped(values: Mapping[str, Any], changes: Mapping[str, Any], section: str, keys: Mapping[str, Any]) -> str:
    """What is said of keys of the file that are dropped; nothing where each is given anew."""
    lost = [
        format_override(f"{section}.{key}", value)
        for key, value in keys.items()
        if not any(given == f"{section}.{key}" or given.startswith(f"{section}.{key}.") for given in changes)
    ]
    if not lost:
        return ""
    now: Any = values
    for part in section.split("."):
        now = now.get(part) if isinstance(now, dict) else None
    name = now.get("name") if isinstance(now, dict) else None
    verb = "does" if len(lost) == 1 else "do"
    return f"{', '.join(lost)} of the file {verb} not apply to {name or f'the {section} that is given'}"


def explain(error: ValidationError) -> list[str]:
    """One line for each key that pydantic found wrong."""
    by_key: dict[str, str] = {}
    for details in error.errors(include_url=False):
        key, line = _explain_one(details, of_experiment=error.title == "Experiment")
        by_key.setdefault(key or line, line)
    return list(by_key.values())


def _explain_one(details: ErrorDetails, *, of_experiment: bool) -> tuple[str, str]:
    context = details.get("ctx", {})
    location = [str(part) for part in details["loc"] if isinstance(part, int) or _is_key(part)]
    if "key" in context:
        location.append(context["key"])
    key = ".".join(location)
    try:
        given = f"{details['input']!r:.60}"
    except ValueError:  # an integer of more digits than Python is willing to write
        given = f"a {type(details['input']).__name__} that is too long to show"
    match details["type"]:
        case "value_error" if not key:
            message = str(context["error"])
            return message.partition(":")[0], message
        case "value_error":
            message = str(context["error"])
        case "missing":
            message = "missing"
        case "unknown_key" if of_experiment and (full := _full_keys(key)):
            message = f"unknown key; did you mean {' or '.join(full[:3])}?"
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


def _is_key(part: str) -> bool:
    # A plain union (batch_size: a number or "full") appends the branch it tried, which no user wrote.
    return part.isidentifier() and part not in ("int", "float")


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that reads 1e-3 as a number, and refuses a key given twice, which YAML would let win silently."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _count_values(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    problem = f"the key {key.value} is given twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


# PyYAML keeps to YAML 1.1, where a number with an exponent needs a point and a sign: 1.0e-3.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _parse_yaml(text: str) -> Any:
    """The values in a text; a ValueError of one line where it is no such YAML."""
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except Exception as error:  # PyYAML raises half a dozen kinds for a date, a number or a tag that is none
        raise ValueError(f"is not valid YAML: {' '.join(str(error).split())[:200]}") from None


def _count_values(node: yaml.Node, counts: dict[int, int | None]) -> int:
    """How many values a node stands for with every alias written out; each node is visited once."""
    if id(node) in counts:
        known = counts[id(node)]
        if known is None:
            raise ValueError("an anchor stands for something that holds its own alias")
        return known
    counts[id(node)] = None
    count = 1
    if isinstance(node, yaml.MappingNode):
        count += sum(_count_values(part, counts) for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        count += sum(_count_values(part, counts) for part in node.value)
    if count > MOST_VALUES:
        raise ValueError(f"it stands for more than {MOST_VALUES} values, no config has that many")
    counts[id(node)] = count
    return count
