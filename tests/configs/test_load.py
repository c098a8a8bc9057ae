"""Reading configs: overrides, numbers, identity."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from whyadam.configs.load import (
    CHOSEN_BY_NAME,
    ConfigError,
    dump_experiment,
    identity,
    load_experiment,
    parse_experiment,
)
from whyadam.configs.schema import Experiment
from whyadam.optimizers import OPTIMIZERS
from whyadam.settings import Registry, Settings


@pytest.fixture
def config_file(tmp_path: Path, mlp_config: dict[str, Any]) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(mlp_config))
    return path


def test_numbers_that_yaml_reads_as_text_are_numbers(config_file: Path) -> None:
    """YAML 1.1 takes 1e-3 for a string, which a user's own optimizer would then get."""
    assert yaml.safe_load("1e-3") == "1e-3"
    overrides = ["optimizer.name=torch.optim:RMSprop", "optimizer.lr=1e-3", "optimizer.eps=-2.5E+3"]
    experiment = load_experiment(config_file, [*overrides, "training.steps=20"])
    assert experiment.optimizer.model_dump() == {"name": "torch.optim:RMSprop", "lr": 1e-3, "eps": -2500.0}
    assert experiment.training.steps == 20


GIVEN = ["optimizer.lr=0.01", "optimizer.name=adam", "optimizer.weight_decay=0.1"]


@pytest.mark.parametrize("overrides", list(permutations(GIVEN)))
def test_the_order_of_overrides_does_not_matter(config_file: Path, overrides: tuple[str, ...]) -> None:
    """Catches a name that drops what the user gave before it: Adam would train at its default rate."""
    optimizer = load_experiment(config_file, overrides).optimizer
    assert (optimizer.name, optimizer.lr, optimizer.weight_decay) == ("adam", 0.01, 0.1)


def test_keys_of_the_file_that_a_new_name_drops_are_listed(
    tmp_path: Path, mlp_config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Another rule's momentum would be refused, its lr silently wrong; a key that is given anew is not lost."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(mlp_config | {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}}))
    adam = load_experiment(path, ["optimizer.name=adam"]).optimizer
    assert adam.model_dump() == OPTIMIZERS["adam"]().model_dump()
    listed = "optimizer.lr=0.1, optimizer.momentum=0.9 of the file do not apply to adam"
    assert capsys.readouterr().err == f"{path}: {listed}\n"
    assert load_experiment(path, ["optimizer.name=adam", "optimizer.lr=0.2"]).optimizer.lr == 0.2
    assert capsys.readouterr().err == f"{path}: optimizer.momentum=0.9 of the file does not apply to adam\n"
    assert load_experiment(path, ["optimizer={name: adam, lr: 0.3}"]).optimizer.lr == 0.3
    assert capsys.readouterr().err == f"{path}: optimizer.momentum=0.9 of the file does not apply to adam\n"
    load_experiment(path, ["model.name=scaled_mlp", "data.name=mnist5k", "optimizer.name=sgd"])
    assert capsys.readouterr().err == f"{path}: model.hidden=[16] of the file does not apply to scaled_mlp\n"


def test_a_given_key_that_the_new_section_does_not_have_is_refused(config_file: Path) -> None:
    for overrides in permutations(["optimizer.momentum=0.5", "optimizer.name=adam"]):
        with pytest.raises(ConfigError, match=r"optimizer.momentum: unknown key; .* \(adam\)$"):
            load_experiment(config_file, overrides)


def test_a_schedule_starts_from_its_defaults_too(
    tmp_path: Path, mlp_config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(mlp_config | {"schedule": {"name": "linear", "warmup_steps": 3, "final": 0.1}}))
    for overrides in permutations(["schedule.final=0.2", "schedule.name=cosine"]):
        schedule = load_experiment(path, overrides).schedule
        assert (schedule.name, schedule.warmup_steps, schedule.final) == ("cosine", 0, 0.2)
        assert capsys.readouterr().err == f"{path}: schedule.warmup_steps=3 of the file does not apply to cosine\n"


def test_a_users_own_optimizer_keeps_the_rate_of_the_file_or_demands_one(
    tmp_path: Path, config_file: Path, mlp_config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its class's own default rate is nothing that whyadam knows, compares or shows."""
    own = "optimizer.name=torch.optim:RMSprop"
    assert load_experiment(config_file, [own]).optimizer.model_dump() == {"name": "torch.optim:RMSprop", "lr": 0.1}
    capsys.readouterr()
    group = "optimizer={name: 'torch.optim:RMSprop', momentum: 0.5}"
    of_group = {"name": "torch.optim:RMSprop", "lr": 0.1, "momentum": 0.5}
    assert load_experiment(config_file, [group]).optimizer.model_dump() == of_group
    assert load_experiment(config_file, ["optimizer.lr=0.3", group]).optimizer.lr == 0.3
    assert not [line for line in capsys.readouterr().err.splitlines() if "optimizer" in line]
    path = tmp_path / "adam.yaml"
    path.write_text(yaml.safe_dump(mlp_config | {"optimizer": {"name": "adam"}}))
    with pytest.raises(ConfigError, match=r"optimizer.lr: missing; give the learning rate of torch.optim:RMSprop"):
        load_experiment(path, [own])
    assert load_experiment(path, ["optimizer.lr=0.5", own]).optimizer.lr == 0.5
    with pytest.raises(ConfigError, match=r"optimizer.lr: should be greater than 0"):
        load_experiment(path, [own, "optimizer.lr=-1"])


@pytest.mark.parametrize("overrides", list(permutations(["noise=null", "noise.batches=8"])))
def test_overrides_that_contradict_each_other_are_refused(config_file: Path, overrides: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"noise=null and noise.batches=8 contradict each other"):
        load_experiment(config_file, overrides)


def test_every_section_that_is_chosen_by_name_is_known() -> None:
    """A new registry in the schema, whose keys of the file would be kept for another name."""

    def sections(settings: Any, prefix: str = "") -> Iterator[str]:
        for key, field in settings.model_fields.items():
            choosers = [getattr(data, "func", None) for data in field.metadata]
            if any(isinstance(getattr(chooser, "__self__", None), Registry) for chooser in choosers):
                yield prefix + key
            for kind in (field.annotation, *get_args(field.annotation)):
                if isinstance(kind, type) and issubclass(kind, Settings):
                    yield from sections(kind, f"{prefix}{key}.")

    assert {*sections(Experiment), "schedule"} == set(CHOSEN_BY_NAME)


def test_the_same_name_keeps_the_sections_keys(config_file: Path) -> None:
    assert load_experiment(config_file, ["optimizer.name=sgd"]).optimizer.lr == 0.1


def test_the_resolved_config_reads_back_as_the_same_experiment(tmp_path: Path, gpt2_config: dict[str, Any]) -> None:
    """Catches a key that is written in a form that the reader refuses or reads as something else."""
    experiment = parse_experiment(gpt2_config, "test")
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_experiment(experiment))
    assert load_experiment(path) == experiment
    assert identity(load_experiment(path)) == identity(experiment)


@pytest.mark.parametrize(
    "override",
    [
        "training.device=cpu",
        "training.workers=2",
        "training.checkpoint_every=7",
        "name=other",
        "optimizer.momentum=0.0",
    ],
)
def test_identity_ignores_what_changes_no_result(config_file: Path, override: str) -> None:
    """The last case is the default written out: it must not look like another experiment."""
    assert identity(load_experiment(config_file, [override])) == identity(load_experiment(config_file))


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "optimizer.lr=0.2",
        "optimizer.name=adam",
        "training.batch_size=8",
        "model.hidden=[8]",
        "schedule.name=cosine",
    ],
)
def test_identity_sees_what_changes_results(config_file: Path, override: str) -> None:
    overrides = [override, "optimizer.lr=0.1"] if override == "optimizer.name=adam" else [override]
    assert identity(load_experiment(config_file, overrides)) != identity(load_experiment(config_file))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n- b\n", "should be a group of keys"),
        ("name: [unclosed\n", "is not valid YAML"),
        ("name: a\nname: b\n", "the key name is given twice"),
        ("", "should be a group of keys"),
        ("!!python/object/apply:os.system ['true']\n", "is not valid YAML"),
        ("name: a\nd: !!binary /////w==\n", "is not valid YAML: .*tag:yaml.org,2002:binary"),
        ("name: a\nd: !!set {b}\n", "is not valid YAML: .*tag:yaml.org,2002:set"),
        ("name: a\nd: !!timestamp 2024-01-01\n", "is not valid YAML: .*tag:yaml.org,2002:timestamp"),
    ],
)
def test_a_file_that_is_no_config_is_refused_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=expected) as caught:
        load_experiment(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_binary_file_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_experiment(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match="not a UTF-8 text file"):
        load_experiment(tmp_path / "binary.yaml")


@pytest.mark.parametrize("override", ["optimizer.lr", "=1", "optimizer.lr.x=1", "optimizer.lr=[1"])
def test_a_wrong_override_is_refused_by_its_own_text(config_file: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=r"^-s "):
        load_experiment(config_file, [override])


def test_checking_a_config_imports_nothing_heavy(config_file: Path) -> None:
    """A wrong key must be told before seconds of imports."""
    heavy = ("torch", "transformers", "torchvision", "datasets", "matplotlib", "scipy", "numpy")
    code = f"""
import sys
from pathlib import Path
from whyadam.configs.load import load_experiment
load_experiment(Path({str(config_file)!r}))
print([module for module in {heavy} if module in sys.modules])
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_an_override_opens_a_section_that_is_empty(tmp_path: Path, mlp_config: dict[str, Any]) -> None:
    """A resolved config says `noise: null`."""
    path = tmp_path / "resolved.yaml"
    path.write_text(yaml.safe_dump(mlp_config | {"noise": None}))
    noise = load_experiment(path, ["noise.batches=8"]).noise
    assert noise is not None
    assert noise.batches == 8
