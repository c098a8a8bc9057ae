"""The ``noise`` section of a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from whyadam.configs.load import ConfigError, dump_experiment, identity, load_experiment, parse_experiment
from whyadam.noise.settings import NoiseSettings


@pytest.mark.parametrize(
    ("values", "due"),
    [
        ({}, [0]),
        ({"every": 10}, [0, 10, 20]),
        ({"at": [5, 20]}, [5, 20]),
        ({"every": 20, "at": [5]}, [0, 5, 20]),
    ],
)
def test_when_the_noise_is_measured(values: dict[str, Any], due: list[int]) -> None:
    assert [step for step in range(25) if NoiseSettings.model_validate(values).is_due(step)] == due


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        ({"batchs": 9}, "noise.batchs: unknown key; did you mean batches?"),
        ({"batches": 7}, "noise.batches"),
        ({"examples": 3}, "noise.examples: 3 are too few"),
        ({"mode": "test"}, "noise.mode"),
        ({"reference": 0}, "noise.reference"),
        ({"reference": "half"}, "noise.reference"),
        ({"batch_size": 1, "examples": 8}, "noise.examples: the mini-batches are single examples already"),
    ],
)
def test_mistakes_are_said_with_their_key(mlp_config: dict[str, Any], noise: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_experiment(mlp_config | {"noise": noise}, "test")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_batch_run_must_say_the_size_of_a_mini_batch(mlp_config: dict[str, Any]) -> None:
    mlp_config["training"] |= {"batch_size": "full", "micro_batch_size": 100}
    with pytest.raises(ConfigError, match=r"noise\.batch_size: missing"):
        parse_experiment(mlp_config | {"noise": {}}, "test")
    parse_experiment(mlp_config | {"noise": {"batch_size": 8}}, "test")


def test_a_config_without_the_section_keeps_its_identity(mlp_config: dict[str, Any]) -> None:
    """Run folders of before there was a noise section must be found again; with one, the run has more to do."""
    without, with_noise = (parse_experiment(mlp_config | extra, "test") for extra in ({}, {"noise": {}}))
    assert "noise" not in without.model_dump(exclude_defaults=True)
    assert identity(with_noise) != identity(without)


def test_the_resolved_config_of_a_run_without_noise_takes_overrides(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    """It says ``noise: null``, which is no group of keys yet."""
    path = tmp_path / "config.yaml"
    path.write_text(dump_experiment(parse_experiment(mlp_config, "test")))
    assert load_experiment(path).noise is None
    assert load_experiment(path, ["noise.batches=9"]).noise == NoiseSettings(batches=9)
