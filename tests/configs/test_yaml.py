"""YAML as configs are written in it: numbers by YAML 1.2, and texts that come back as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from whyadam.configs.load import (
    ConfigError,
    dump_experiment,
    format_override,
    load_experiment,
    parse,
    parse_experiment,
    parse_override,
)

LOOKALIKES = ["1e-3", "1e5", "695e0514", "010", "1:30", "yes", "true", "null", "~", "", "0x10", "0o10", "1_000", ".5"]
LOOKALIKES += ["2024-01-01", "- a", "a: b", "#x", "'", '"', " a", "a ", "a\nb", "a\r\nb", "\t", "\x85", "\u2028", "<<"]
TEXTS = st.one_of(st.sampled_from(LOOKALIKES), st.text(), st.text(st.sampled_from("0123456789.eE+-_:xo"), max_size=8))
CONFIG: dict[str, Any] = {
    "name": "tiny",
    "data": {"name": "mnist5k"},
    "task": {"name": "classification"},
    "optimizer": {"name": "sgd"},
    "training": {"steps": 1},
}


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, key=st.text(min_size=1))
def test_a_resolved_config_reads_back_as_the_experiment_whatever_texts_it_holds(text: str, key: str) -> None:
    """A text that looks like a number was written without quotes, and the run could not be read any more."""
    model = {"name": "mine:Model", "text": text, "inner": {key: [text, 1e-5, 7, True, None]}}
    experiment = parse_experiment(CONFIG | {"model": model}, "test")
    dumped = dump_experiment(experiment)
    assert parse_experiment(parse(dumped), "test") == experiment
    assert yaml.safe_load(dumped)["model"]["text"] == text


@settings(max_examples=300, deadline=None)
@given(
    value=st.one_of(TEXTS, st.lists(TEXTS), st.integers(), st.floats(allow_nan=False), st.dictionaries(TEXTS, TEXTS))
)
def test_an_override_reads_back_as_its_value(value: Any) -> None:
    assert parse_override(format_override("key", value)) == ("key", value)


@pytest.mark.parametrize("name", ["1e-3", "695e0514", "010"])
def test_a_run_whose_name_looks_like_a_number_can_be_read(
    name: str, tmp_path: Path, mlp_config: dict[str, Any]
) -> None:
    experiment = parse_experiment(mlp_config | {"name": name}, "test")
    path = tmp_path / "config.yaml"
    path.write_text(dump_experiment(experiment))
    assert load_experiment(path) == experiment
    assert f"name: '{name}'" in path.read_text()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1e-3", 1e-3), ("-2.5E+3", -2500.0), ("1_000", 1000), ("0x10", 16), ("0o10", 8), ("+1", 1), (".5", 0.5)),
        *(("1:30", "1:30"), ("1:30.5", "1:30.5"), ("2024-01-01", "2024-01-01"), ("1.2.3", "1.2.3"), ("true", True)),
    ],
)
def test_a_plain_value_is_read_as_by_yaml_1_2(text: str, value: Any) -> None:
    read = parse(text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.steps=010", "training.steps=010: the value is not valid YAML: 010 begins with 0: write 10"),
        ("optimizer.lr=-007", "-007 begins with 0: write -7"),
        ("training.steps=1:30", "training.steps: should be a valid integer, unable to parse string as an integer"),
        ("training.steps=true", "training.steps: should be a number, not the truth value true"),
        ("training.steps=yes", "training.steps: should be a number, not the truth value true"),
        ("optimizer.lr=on", "optimizer.lr: should be a number, not the truth value true"),
        ("name=1e-3", "name: should be a valid string, got 0.001; put a text that looks like something else in quotes"),
        ("seed=false", "seed: should be a number, not the truth value false"),
        ("training.batch_size=yes", "training.batch_size: should be a number, not the truth value true"),
        ("model.hidden=[4, true]", "model.hidden: should be a number, not the truth value true"),
        ("training.keep_checkpoints=[yes]", "training.keep_checkpoints: should be a number"),
    ],
)
def test_what_is_no_number_is_refused_by_its_key(
    override: str, expected: str, tmp_path: Path, mlp_config: dict[str, Any]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(mlp_config))
    with pytest.raises(ConfigError) as refusal:
        load_experiment(path, [override])
    assert expected in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_leading_zero_in_a_file_is_refused_by_its_key(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("training: {steps: 5,\n  keep_checkpoints: [0, 010]}\n")
    with pytest.raises(ConfigError, match=r"training.keep_checkpoints: 010 begins with 0: write 10"):
        load_experiment(path)


def test_truth_values_stay_truth_values(tmp_path: Path, mlp_config: dict[str, Any]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(mlp_config))
    overrides = ["optimizer.nesterov=yes", "optimizer.momentum=0.9", "optimizer.foreach=false", "training.compile=on"]
    experiment = load_experiment(path, overrides)
    assert (experiment.optimizer.nesterov, experiment.optimizer.foreach, experiment.training.compile) == (
        True,
        False,
        True,
    )


def test_a_standard_deviation_of_zero_is_refused(tmp_path: Path) -> None:
    data = {"name": "image_folder", "path": str(tmp_path), "std": [0.2, 0, 0.2]}
    with pytest.raises(ConfigError, match=r"data.std.1: should be greater than 0, got 0"):
        parse_experiment(CONFIG | {"model": {"name": "mlp"}, "data": data}, "test")
