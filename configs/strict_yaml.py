"""YAML as configs are written in it: plain values only, no key twice, nothing that grows when it is read."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

LARGEST_FILE = 2**18
"""Bytes; the largest shipped config has 2,000, and PyYAML takes seconds for this many."""

MOST_VALUES = 10_000
"""Aliases let a file of 500 bytes stand for billions of values."""


def read_file(path: Path) -> Any:
    """The values in a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such YAML; one line.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"has more than {LARGEST_FILE} bytes, no config is that large")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not a UTF-8 text file") from None
    return parse(text)


def parse(text: str) -> Any:
    """The values in a text.

    Raises:
        ValueError: it is no such YAML; one line.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except Exception as error:  # PyYAML raises half a dozen kinds for a date, a number or a tag that is none
        raise ValueError(f"is not valid YAML: {' '.join(str(error).split())[:200]}") from None


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
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value} is given twice", node.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


# PyYAML keeps to YAML 1.1, where a number with an exponent needs a point and a sign: 1.0e-3.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _count_values(node: yaml.Node, counts: dict[int, int | None]) -> int:
    """How many values a node stands for with every alias written out; each node is looked at once."""
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
