"""Configs and overrides that are damaged, hostile or absurd: one line that names the file, at once."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from whyadam.configs.load import SHIPPED, ConfigError, dump_experiment, load_experiment

pytestmark = pytest.mark.faults

NAMES = ("demo", "quadratic", "bert_nano_xquad", "resnet18_cifar10_jpeg", "gpt2_nano_full_batch")
CONFIGS = [SHIPPED / "quick" / f"{name}.yaml" for name in NAMES]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**30, -(10**30), 2**63, 0, -1]),
    st.floats(),
    st.text(max_size=30),
    st.binary(max_size=10),
    st.dates(),
    st.sampled_from(["adam", "full", "auto", "../../etc", "os:system", "a" * 5000, "1e999", "100%", "nan", "${HOME}"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def sections_of(values: Any) -> list[dict[Any, Any]]:
    """A config's groups of keys, the outermost first."""
    inner = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    own = [values] if isinstance(values, dict) else []
    return own + [section for part in inner for section in sections_of(part)]


@st.composite
def mutated_values(draw: st.DrawFn) -> bytes:
    """A shipped config with one to three values replaced, left out or added."""
    values = yaml.safe_load(draw(st.sampled_from(CONFIGS)).read_text(encoding="utf-8"))
    for _ in range(draw(st.integers(1, 3))):
        section = draw(st.sampled_from(sections_of(values)))
        known = sorted(section, key=str)
        key = draw(st.sampled_from(known) | st.text(max_size=8)) if known else draw(st.text(max_size=8))
        if draw(st.booleans()) and key in section:
            del section[key]
        else:
            section[key] = draw(VALUES)
    return yaml.safe_dump(values, allow_unicode=True).encode("utf-8", "surrogatepass")


@st.composite
def mutated_text(draw: st.DrawFn) -> bytes:
    """A shipped config whose bytes are changed, cut, doubled or mixed with YAML's own signs."""
    content = bytearray(draw(st.sampled_from(CONFIGS)).read_bytes())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        added = draw(
            st.binary(max_size=4) | st.sampled_from([b"&a ", b"*a ", b"{", b"]", b"? ", b"<<: ", b"!!", b"\t"])
        )
        content[at : at + draw(st.integers(0, 40))] = added
    return bytes(content)


def is_read_or_refused_in_one_line(path: Path, *overrides: str) -> bool:
    """Whether it is read; if so, what is written of it must be read as the same."""
    start, refusal = time.perf_counter(), None
    try:
        experiment = load_experiment(path, overrides)
    except ConfigError as error:
        refusal = error
    assert time.perf_counter() - start < 30
    if refusal is not None:
        assert all(len(problem) < 1000 and len(problem.splitlines()) == 1 for problem in refusal.problems)
        assert any(str(refusal).startswith(source) for source in (str(path), *(f"-s {given}" for given in overrides)))
        return False
    path.write_text(dump_experiment(experiment), encoding="utf-8")
    assert load_experiment(path) == experiment
    return True


def try_mutations(folder: Path, examples: int) -> None:
    read = 0

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(mutated_values() | mutated_text())
    def check(content: bytes) -> None:
        nonlocal read
        path = folder / "mutated.yaml"
        path.write_bytes(content)
        read += is_read_or_refused_in_one_line(path)

    check()
    print(f"{read} of {examples} mutated configs were valid, the others were refused in one line")
    assert 0 < read < examples / 2


def test_mutated_configs(tmp_path: Path) -> None:
    """Some of those of the next test, which is slow."""
    try_mutations(tmp_path, 100)


@pytest.mark.slow
def test_a_thousand_mutated_configs(tmp_path: Path) -> None:
    try_mutations(tmp_path, 1000)


@pytest.mark.slow
def test_a_thousand_overrides(tmp_path: Path) -> None:
    keys = [
        "optimizer.lr",
        "optimizer.name",
        "training",
        "training.steps",
        "model",
        "data.blocks.0",
        "name",
        "",
        ".",
        "a..b",
    ]

    @settings(max_examples=1000, deadline=None, derandomize=True, database=None)
    @given(st.sampled_from(keys) | st.text(max_size=12), st.text(max_size=20) | VALUES.map(repr))
    def check(key: str, value: str) -> None:
        path = tmp_path / "config.yaml"
        path.write_bytes((SHIPPED / "quick" / "quadratic.yaml").read_bytes())
        is_read_or_refused_in_one_line(path, f"{key}={value}")

    check()


LEVELS = "".join(
    f"{'abcdefghijklm'[i + 1]}: &{'abcdefghijklm'[i + 1]} [{', '.join('*' + 'abcdefghijklm'[i] for _ in range(9))}]\n"
    for i in range(12)
)

HOSTILE = {
    "billion laughs": f"a: &a [lol]\n{LEVELS}name: *m\n",
    "an alias of itself": "&a {name: *a, model: *a, training: *a}\n",
    "a list in itself": "&a [*a]\n",
    "deep lists": "name: " + "[" * 2000 + "]" * 2000,
    "a number of 100,000 digits": "seed: " + "9" * 100_000,
    "a hexadecimal number of 100,000 digits": "seed: 0x" + "f" * 100_000,
    "ten megabytes in one value": "name: " + "a" * 10_000_000,
    "ten megabytes of keys": "".join(f"key{number}: {number}\n" for number in range(600_000)),
    "many keys": "".join(f"k{number}: 1\n" for number in range(6_000)),
    "no date": "name: 2001-13-45\n",
    "no number": "seed: !!int abc\n",
    "no truth": "seed: !!bool abc\n",
    "no time": "seed: !!timestamp abc\n",
    "an object": "name: !!python/object/apply:os.system ['touch executed']\n",
    "a new object": "name: !!python/object/new:type {args: [x, !!python/tuple [], {}]}\n",
    "a module": "name: !!python/module:os\n",
    "a list as a key": "? [a, b]\n: 1\n",
    "two documents": "name: a\n---\nname: b\n",
    "a zero byte": "name: \0\n",
    "half a character pair": 'name: "\\ud800"\n',
    "not a number": "seed: .nan\ntraining: {steps: .inf, epochs: -.inf}\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_refused_at_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hostile.yaml"
    path.write_text(HOSTILE[name], encoding="utf-8")
    assert not is_read_or_refused_in_one_line(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n\x00\x00", b"\xff\xfe\x00a", b"PK\x03\x04", bytes(range(256)) * 9]
)
def test_files_that_are_no_text_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(content)
    assert not is_read_or_refused_in_one_line(tmp_path / "binary.yaml")


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    generator = random.Random(0)
    for size in range(1, 200):
        (tmp_path / "random.yaml").write_bytes(generator.randbytes(size))
        assert not is_read_or_refused_in_one_line(tmp_path / "random.yaml")
