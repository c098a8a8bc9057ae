"""Naming configs, looking at them before they run, and hints on keys that are not there."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner
from whyadam.cli import app
from whyadam.configs.load import ConfigError, config_path, load_experiment, parse_experiment, shipped_configs
from whyadam.studies.sweeps.plan import load_sweep, plan
from whyadam.training.run_folder import RunFolder

QUICK = Path(__file__).parents[2] / "configs" / "quick"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, as where the package is installed."""
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> str:
    """What a command prints."""
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", ["quick/mlp_mnist5k", "quick/mlp_mnist5k.yaml", "configs/quick/mlp_mnist5k.yaml"])
def test_a_shipped_config_has_its_name_everywhere(name: str) -> None:
    """In every command that takes a config, from any folder."""
    expected = load_experiment(QUICK / "mlp_mnist5k.yaml")
    assert load_experiment(Path(name)) == expected
    assert run("validate", name) == f"{name}: valid\n"
    assert parse_experiment(yaml.safe_load(run("show", name)), "test") == expected
    assert [trial.experiment for trial in plan(load_sweep(Path(name)))] == [expected]


def test_every_shipped_config_is_found_by_its_name() -> None:
    names = shipped_configs()
    assert {"quick/mlp_mnist5k", "gpu/vgg16_cifar10", "paper/gpt2_nano"} <= set(names)
    assert [config_path(name) for name in names] == [QUICK.parent / f"{name}.yaml" for name in names]


def test_a_path_of_the_users_own_comes_first(tmp_path: Path, mlp_config: dict[str, Any]) -> None:
    own = tmp_path / "quick" / "mlp_mnist5k.yaml"
    own.parent.mkdir()
    own.write_text(yaml.safe_dump(mlp_config))
    for name in ("quick/mlp_mnist5k", "quick/mlp_mnist5k.yaml", str(own)):
        assert load_experiment(Path(name)).name == "tiny"
    assert load_experiment(Path("quick/resnet18_mnist5k")).name == "resnet18-mnist5k"


def test_a_sweep_file_finds_a_config_beside_it_then_by_name(tmp_path: Path, mlp_config: dict[str, Any]) -> None:
    folder = tmp_path / "sweeps"
    folder.mkdir()
    (folder / "mine.yaml").write_text(yaml.safe_dump(mlp_config))
    for config, expected in (("mine", "tiny"), ("mine.yaml", "tiny"), ("quick/mlp_mnist5k", "mlp-mnist5k")):
        (folder / "sweep.yaml").write_text(yaml.safe_dump({"config": config, "seeds": [1]}))
        (trial,) = plan(load_sweep(folder / "sweep.yaml"))
        assert trial.experiment.name == expected


def test_a_pipe_is_a_config_too(tmp_path: Path, mlp_config: dict[str, Any]) -> None:
    """As in ``whyadam train <(...)``."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=[yaml.safe_dump(mlp_config)]).start()
    assert load_experiment(pipe).name == "tiny"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("quick/mlp_mnist", "No such file or directory; did you mean quick/mlp_mnist5k?"),
        ("quick/gpt2_nano_kvj.yaml", "No such file or directory; did you mean quick/gpt2_nano_kjv?"),
        ("something", "No such file or directory; see `whyadam list configs`"),
        ("runs/x/config.yaml", "cannot be read: No such file or directory"),
        (".", "Is a directory"),
        ("", "Is a directory"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_nearest(name: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment(Path(name))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_show_prints_what_would_be_trained() -> None:
    """Every default, and the overrides; what it prints is a config itself."""
    options = ["-s", "optimizer.name=adam", "-s", "optimizer.lr=0.5", "--seed", "7"]
    values = yaml.safe_load(run("show", "quick/mlp_mnist5k", *options))
    assert (values["seed"], values["optimizer"]["lr"], values["optimizer"]["betas"]) == (7, 0.5, [0.9, 0.999])
    assert values["training"]["checkpoint_every"] == 100
    given = load_experiment(Path("quick/mlp_mnist5k"), ["optimizer.name=adam", "optimizer.lr=0.5", "seed=7"])
    assert parse_experiment(values, "test") == given


def test_path_prints_the_run_folder_and_creates_nothing(tmp_path: Path) -> None:
    printed = run("path", "quick/mlp_mnist5k", "-s", "optimizer.lr=0.5", "--seed", "7", "--out", "there").strip()
    experiment = load_experiment(Path("quick/mlp_mnist5k"), ["optimizer.lr=0.5", "seed=7"])
    assert printed == str(RunFolder.of(experiment, Path("there")).path)
    assert printed.startswith("there/mlp-mnist5k/sgd-lr0.5-seed7-")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "optimizer.name=torch.optim.NAdam",
            "optimizer.name: torch.optim.NAdam is not known; did you mean torch.optim:NAdam?",
        ),
        ("model.name=mine.nets.Deep", "model.name: mine.nets.Deep is not known; did you mean mine.nets:Deep?"),
        ("data.name=mine.stripes", "data.name: mine.stripes is not known; did you mean mine:stripes?"),
        ("optimizer.name=adm", "optimizer.name: adm is not known; did you mean adam?"),
        ("optimizer.name=1.5", "optimizer.name: that is not known; known: sgd"),
        ("task.name=mine.Task", "task.name: mine.Task is not known; known: classification"),
        ("lr=0.1", "lr: unknown key; did you mean optimizer.lr?"),
        ("learning_rate=0.1", "learning_rate: unknown key; did you mean optimizer.lr?"),
        ("optimizer.learning_rate=0.1", "optimizer.learning_rate: unknown key; did you mean optimizer.lr?"),
        ("training.lr=0.1", "training.lr: unknown key; did you mean optimizer.lr?"),
        ("device=cpu", "device: unknown key; did you mean training.device?"),
        ("model.device=cpu", "model.device: unknown key; did you mean training.device?"),
        ("warmup_steps=3", "warmup_steps: unknown key; did you mean schedule.warmup_steps?"),
        ("epochs=3", "epochs: unknown key; did you mean training.epochs?"),
        ("num_epochs=3", "num_epochs: unknown key; did you mean training.epochs?"),
        ("optimizer.seed=3", "optimizer.seed: unknown key; did you mean seed?"),
        ("batch_size=3", "batch_size: unknown key; did you mean training.batch_size or "),
        ("optimizer.momentun=0.9", "optimizer.momentun: unknown key; did you mean momentum?"),
        ("optimizer.clip=1", "optimizer.clip: unknown key; known: name, lr"),
        ("training.epochs=3", "give either training.steps or training.epochs; training.steps=null leaves"),
    ],
)
def test_a_wrong_key_or_name_is_refused_with_the_right_one(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment(Path("quick/mlp_mnist5k"), [override])
    assert expected in str(caught.value)


def test_the_ways_out_of_the_hints_work() -> None:
    assert load_experiment(Path("quick/mlp_mnist5k"), ["training.steps=null", "training.epochs=3"]).training.epochs == 3
    assert load_experiment(Path("quick/mlp_mnist5k"), ["optimizer.name=torch.optim:NAdam"]).optimizer.name


def test_a_sweep_file_gets_no_hint_for_a_config() -> None:
    """Its keys stand below ``set`` there."""
    Path("sweep.yaml").write_text("config: quick/mlp_mnist5k\nlr: 0.1\n")
    with pytest.raises(ConfigError, match=r"lr: unknown key; (?!did you mean optimizer)"):
        load_sweep(Path("sweep.yaml"))
