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
from . import schema
from .schema import Experiment, check_length

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SHIPPED = Path(__file__).parent

CHOSEN_BY_NAME = ("model", "data", "task", "optimizer", "schedule", "training.inject_noise.law")
"""Sections whose other keys go with their ``name``."""

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
    given = {key: f"-s {override}" for (key, _), override in zip(changes, overrides, strict=True)}
    dropped = apply_changes(values, merge_changes(changes), given)
    experiment = parse_experiment(values, source=str(path))
    for line in dropped:
        print(f"{path}: {line}", file=sys.stderr)
    return experiment


def check_runnable(experiment: Experiment, source: str) -> None:
    """Refuse a config, before it is run, that asks for what no run of it can do.

    Raises:
        ConfigError: something comes after the last step; ``source`` begins its message.
    """
    if experiment.training.steps is not None:
        try:
            check_length(experiment, experiment.training.steps)
        except UserError as error:
            raise ConfigError(source, [str(error)]) from None


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
    return yaml.dump(experiment.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, default_flow_style=None)


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
        return parse(content.decode("utf-8"))
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
        return parse(text)
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
        "training": schema.Training.model_fields,
        "schedule": schema.Schedule.model_fields,
        "noise": schema.NoiseSettings.model_fields,
        "hessian": schema.HessianSettings.model_fields,
    }
    choices: tuple[Any, ...] = (schema.OPTIMIZERS, schema.MODELS, schema.DATA, schema.TASKS)
    for name, registry in zip(("optimizer", "model", "data", "task"), choices, strict=True):
        fields[name] = [field for _, entry in registry.items() for field in entry.model_fields]
    # The own section first: optimizer.learning_rate is optimizer.lr.
    ordered = sorted(fields, key=lambda name: name != section)
    found = [f"{name}.{ending}".removeprefix(".") for name in ordered if ending in fields[name]]
    return [full for full in found if full != key]


def format_override(key: str, value: Any) -> str:
    """What ``parse_override`` reads as this key and this value."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=float("inf"), allow_unicode=True)
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


def apply_changes(values: dict[str, Any], changes: Mapping[str, Any], source: str | Mapping[str, str]) -> list[str]:
    """Change a config that has been read, in place: names of sections first, then everything else.

    A new ``name`` for a section (``optimizer.name=adam``) drops the keys that the file gives for it: another choice
    starts from its own defaults. But a user's own optimizer, which has none, keeps the file's ``lr``.

    Args:
        values: of the config.
        changes: as ``merge_changes`` gives them.
        source: begins the message of an error; one text for all changes, or one by key.

    Returns:
        One line for each section of which keys of the file are dropped.

    Raises:
        ConfigError: a key leads through something that is no group of keys, or a user's own optimizer gets no lr.
    """
    dropped: dict[str, dict[str, Any]] = {}
    of_file = values.get("optimizer")
    file_lr = {"lr": of_file["lr"]} if isinstance(of_file, dict) and "lr" in of_file else {}
    # Groups before what is in them, names before their neighbours.
    for key, value in sorted(changes.items(), key=lambda change: (change[0].count("."), change[0][-5:] != ".name")):
        label = source if isinstance(source, str) else source.get(key, f"-s {format_override(key, value)}")
        *sections, last = key.split(".")
        group = values
        for section in sections:
            if group.get(section) is None:
                group[section] = {}
            group = group[section]
            if not isinstance(group, dict):
                raise ConfigError(label, [f"{section} is not a group of keys"])
        path = ".".join(sections)
        if last == "name" and path in CHOSEN_BY_NAME and group.get("name") != value:
            is_own = path == "optimizer" and ":" in str(value)
            kept = file_lr if is_own else {}
            of_name = dropped.get(path, {}) | group
            dropped[path] = {k: v for k, v in of_name.items() if k not in ("name", *kept)}
            group.clear()
            group.update(kept)
            if is_own and not kept and "optimizer.lr" not in changes:
                raise ConfigError(label, [f"optimizer.lr: missing; give the learning rate of {value}"])
        if isinstance(value, dict) and isinstance(group.get(last), dict):
            dropped.setdefault(key, {}).update({k: v for k, v in group[last].items() if k != "name"})
        group[last] = deepcopy(value)
    return [line for section, keys in dropped.items() if (line := _dropped(values, changes, section, keys))]


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
        case "value_error":
            message = str(context["error"])
            if not key:
                return message.partition(":")[0], message
        case "missing":
            message = "missing"
        case "string_type":
            message = f"should be a valid string, got {given}; put a text that looks like something else in quotes"
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
            reason = re.sub(r"\d{16,}", lambda digits: f"{float(digits[0]):g}", reason)
            message = f"{reason[0].lower()}{reason[1:]}, got {given}"
    return key, f"{key}: {message}"


def _is_key(part: str) -> bool:
    # A plain union (batch_size: a number or "full") appends the branch it tried, which no user wrote.
    return part.isidentifier() and part not in ("int", "float")


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that reads 1e-3 as a number, and refuses a key given twice, which YAML would let win silently."""

    def get_single_node(self) -> yaml.Node | None:
        self.root: yaml.Node | None = super().get_single_node()
        if self.root is not None:
            _count_values(self.root, {})
        return self.root

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    problem = f"the key {key.value} is given twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A leading zero means 8 to YAML 1.1 and nothing to YAML 1.2, so it is refused."""
        if re.match(r"[-+]?0[0-9]", node.value):
            plain = re.sub(r"^([-+]?)0+(?=[0-9])", r"\1", node.value)
            raise yaml.constructor.ConstructorError(
                None, None, f"{_key_of(self.root, node)}{node.value} begins with 0: write {plain}", node.start_mark
            )
        return super().construct_yaml_int(node)


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)
for _kind in ("binary", "set", "omap", "pairs", "timestamp"):  # no config holds such, and not all can be written again
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _StrictLoader.construct_undefined)  # type: ignore[type-var]

# PyYAML keeps to YAML 1.1, where 1:30 is 90, 2024-01-01 a date, and 1e-3 a text. Here they are read as by YAML 1.2.
_PLAIN: dict[str, tuple[str, str]] = {
    "int": (r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+|0b[01]+", "-+0123456789"),
    "float": (
        r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
_OLD_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp")}
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OLD_TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Quotes every text that a reader of YAML 1.1 or ours would take for something else."""


for _kind, (_pattern, _first) in _PLAIN.items():
    for _class in (_StrictLoader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"(?:{_pattern})$"), list(_first))


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Of line ends and control characters only the double-quoted style keeps every one.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)


def _key_of(root: yaml.Node | None, wanted: yaml.Node) -> str:
    """The dotted key of a value, with a colon; nothing where it has none."""

    def find(node: yaml.Node, path: tuple[str, ...]) -> tuple[str, ...] | None:
        if node is wanted:
            return path
        inner: list[tuple[tuple[str, ...], yaml.Node]] = []
        if isinstance(node, yaml.MappingNode):
            inner = [((*path, str(key.value)), value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            inner = [(path, value) for value in node.value]
        return next((found for at, value in inner if (found := find(value, at)) is not None), None)

    path = None if root is None else find(root, ())
    return f"{'.'.join(path)}: " if path else ""


def parse(text: str) -> Any:
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
