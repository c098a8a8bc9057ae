"""The ``hessian`` section of a config."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from whyadam.configs.load import ConfigError, dump_experiment, identity, load_experiment, parse_experiment
from whyadam.hessian.settings import HessianSettings, step_at


@pytest.mark.parametrize(
    ("values", "due"),
    [
        ({}, [0]),
        ({"every": 10}, [0, 10, 20]),
        ({"at": [5, 20]}, [5, 20]),
        ({"every": 20, "at": [5]}, [0, 5, 20]),
        ({"at": ["0%", "50%", "100%"]}, [0, 12, 24]),
        ({"at": [0, "33.5%"]}, [0, 8]),
    ],
)
def test_when_the_curvature_is_measured(values: dict[str, Any], due: list[int]) -> None:
    settings = HessianSettings.model_validate(values)
    assert [step for step in range(25) if settings.is_due(step, last_step=24)] == due


def test_the_last_step_is_reached_whatever_the_length() -> None:
    assert all(step_at("100%", length) == length for length in (1, 3, 7, 299, 10_007))


@pytest.mark.parametrize(
    ("hessian", "expected"),
    [
        ({"probe": 9}, "hessian.probe: unknown key; did you mean probes?"),
        ({"at": ["101%"]}, "hessian.at"),
        ({"at": ["last"]}, "hessian.at"),
        ({"at": [-1]}, "hessian.at"),
        ({"tolerance": 1}, "hessian.tolerance"),
        ({"steps": 0}, "hessian.steps"),
        ({"processes": 0}, "hessian.processes"),
        ({"batch_norm": "train"}, "hessian.batch_norm"),
    ],
)
def test_mistakes_are_said_with_their_key(mlp_config: dict[str, Any], hessian: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_experiment(mlp_config | {"hessian": hessian}, "test")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_without_the_section_keeps_its_identity(mlp_config: dict[str, Any]) -> None:
    """Run folders of before there was such a section must be found again; with one, the run has more to do."""
    without, with_hessian = (parse_experiment(mlp_config | extra, "test") for extra in ({}, {"hessian": {}}))
    assert "hessian" not in without.model_dump(exclude_defaults=True)
    assert identity(with_hessian) != identity(without)


def test_the_number_of_processes_makes_no_other_run(mlp_config: dict[str, Any]) -> None:
    one, four = (parse_experiment(mlp_config | {"hessian": {"processes": count}}, "test") for count in (1, 4))
    assert identity(one) == identity(four)


def test_the_resolved_config_comes_back_and_takes_overrides(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    experiment = parse_experiment(mlp_config | {"hessian": {"at": [0, "100%"], "blocks": ["*.weight"]}}, "test")
    path = tmp_path / "config.yaml"
    path.write_text(dump_experiment(experiment))
    assert load_experiment(path) == experiment
    assert load_experiment(path, ["hessian.full=true"]).hessian == HessianSettings(
        at=(0, "100%"), blocks=("*.weight",), full=True
    )


def test_settings_are_read_without_torch() -> None:
    """A config is checked in a fraction of a second."""
    code = "import sys, whyadam.hessian.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("given", "expected"), [({}, ("calibrated", "running")), ({"batch_norm": "batch"}, ("batch",) * 2)]
)
def test_batch_norm_is_calibrated_at_step_0_unless_given(given: dict[str, Any], expected: tuple[str, str]) -> None:
    settings = HessianSettings.model_validate(given)
    assert (settings.batch_norm_at(0), settings.batch_norm_at(10)) == expected
