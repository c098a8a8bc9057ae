"""What a sweep file means: which runs, in which order, and what is refused before anything runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from whyadam.configs.load import ConfigError, load_experiment, parse_override
from whyadam.studies.sweeps.plan import Sweep, change_sweep, describe_arms, load_sweep, parse_grid, plan
from whyadam.training.run_folder import RunFolder


@pytest.fixture
def write_sweep(mlp_config: dict[str, Any], tmp_path: Path) -> Any:
    """Writes a sweep file beside its config, and reads it."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(mlp_config))

    def write(text: str) -> Sweep:
        path = tmp_path / "sweep.yaml"
        path.write_text(f"config: config.yaml\n{text}")
        return load_sweep(path)

    return write


TWO_ARMS = """
set: {training.steps: 4}
seeds: 0..1
grid: {training.batch_size: [8, 16]}
arms:
  sgd: {set: {optimizer.momentum: 0.9}, grid: {optimizer.lr: [0.1]}}
  adam: {set: {optimizer.name: adam}, grid: {optimizer.lr: [3e-4, 1e-3]}}
"""


def test_whole_seeds_come_first_then_arms_then_the_grid(write_sweep: Any) -> None:
    planned = [(trial.seed, trial.arm, *trial.point.values()) for trial in plan(write_sweep(TWO_ARMS))]
    one_seed = [
        ("sgd", 8, 0.1),
        ("sgd", 16, 0.1),
        ("adam", 8, 3e-4),
        ("adam", 8, 1e-3),
        ("adam", 16, 3e-4),
        ("adam", 16, 1e-3),
    ]
    assert planned == [(seed, *point) for seed in (0, 1) for point in one_seed]


def test_changes_apply_from_the_general_to_the_special(write_sweep: Any) -> None:
    """A later layer wins, and what an arm does not name comes from the config."""
    sweep = write_sweep(
        "set: {training.steps: 4, optimizer.lr: 7}\n"
        "arms: {a: {set: {training.steps: 5}, grid: {training.steps: [9]}}, b: {set: {optimizer.lr: 2}}, c: {}}\n"
    )
    experiments = {trial.arm: trial.experiment for trial in plan(sweep)}
    assert {arm: experiment.training.steps for arm, experiment in experiments.items()} == {"a": 9, "b": 4, "c": 4}
    assert {arm: experiment.optimizer.lr for arm, experiment in experiments.items()} == {"a": 7, "b": 2, "c": 7}


def test_a_new_name_comes_before_the_other_keys_of_its_group(write_sweep: Any) -> None:
    """Else the order in which a grid is written would decide whether its learning rates count."""
    sweep = write_sweep("grid: {optimizer.lr: [0.5, 0.25], optimizer.name: [adam, signum]}")
    tried = {(trial.experiment.optimizer.name, trial.experiment.optimizer.lr) for trial in plan(sweep)}
    assert tried == {(name, lr) for name in ("adam", "signum") for lr in (0.5, 0.25)}


def test_what_is_set_for_all_runs_holds_whatever_optimizer_a_run_names(write_sweep: Any) -> None:
    """Arms and grids whose optimizer is not the config's lost it, and trained at their own defaults."""
    given = "set: {optimizer.weight_decay: 0.1, optimizer.lr: 0.02}\n"
    by_grid = "grid: {optimizer.name: [sgd, adam, signum]}"
    by_arms = "arms: {a: {set: {optimizer.name: adam}}, b: {set: {optimizer: {name: acclip}}}, c: {}}"
    for sweep in (write_sweep(given + by_grid), write_sweep(given + by_arms)):
        optimizers = [trial.experiment.optimizer for trial in plan(sweep)]
        assert len({optimizer.name for optimizer in optimizers}) == 3
        assert {(optimizer.lr, optimizer.weight_decay) for optimizer in optimizers} == {(0.02, 0.1)}
    with pytest.raises(ConfigError, match=r"name=adam: optimizer.momentum: unknown key; .* \(adam\)$"):
        plan(write_sweep("set: {optimizer.momentum: 0.9}\ngrid: {optimizer.name: [sgd, adam]}"))


def test_what_the_arms_train_with_is_told_where_it_differs(write_sweep: Any) -> None:
    trials = plan(
        write_sweep("set: {optimizer.lr: 0.02}\ngrid: {optimizer.name: [sgd, signum], training.steps: [4, 5]}")
    )
    assert describe_arms(trials) == [
        "sgd: optimizer.name=sgd optimizer.momentum=0.0 optimizer.nesterov=false training.steps=4|5",
        "signum: optimizer.name=signum optimizer.momentum=0.9 training.steps=4|5",
    ]
    assert {trial.dropped for trial in trials} == {()}
    (_, dropped) = [trial.dropped for trial in plan(write_sweep("grid: {optimizer.name: [sgd, adam]}"))]
    assert dropped == ("optimizer.lr=0.1 of the file does not apply to adam",)
    assert describe_arms(plan(write_sweep("grid: {optimizer.lr: [0.1, 0.2]}"))) == []


def test_a_whole_group_in_a_later_layer(write_sweep: Any) -> None:
    """An arm may switch off what all runs have, and name an optimizer with its keys at once."""
    sweep = write_sweep("set: {noise.batches: 9}\narms: {a: {}, b: {set: {noise: null}}}")
    assert [trial.experiment.noise is None for trial in plan(sweep)] == [False, True]
    sweep = write_sweep("set: {optimizer.lr: 1}\narms: {a: {set: {optimizer: {name: adam, lr: 2}}}}")
    assert [trial.experiment.optimizer.lr for trial in plan(sweep)] == [2]


def test_tuning_seeds_take_the_grid_and_seeds_the_chosen_points(write_sweep: Any) -> None:
    sweep = write_sweep(TWO_ARMS + "tuning_seeds: [100]")
    assert {trial.seed for trial in plan(sweep)} == {100}
    point = {"training.batch_size": 8, "optimizer.lr": 0.1}
    final = plan(sweep, {"sgd": point})
    assert [(trial.seed, trial.arm, trial.point) for trial in final] == [(0, "sgd", point), (1, "sgd", point)]


def test_a_plain_config_is_a_sweep_of_one_run(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(mlp_config | {"seed": 3}))
    (trial,) = plan(load_sweep(path))
    assert (trial.experiment, trial.seed) == (load_experiment(path), 3)
    changed = change_sweep(load_sweep(path), seeds="0,5", grid={"optimizer.lr": (0.1, 0.2)})
    assert [(trial.seed, trial.experiment.optimizer.lr) for trial in plan(changed)] == [
        (0, 0.1),
        (0, 0.2),
        (5, 0.1),
        (5, 0.2),
    ]


def test_shipped_configs_are_found_by_their_short_names(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("config: quick/mlp_mnist5k.yaml\n")
    assert [trial.experiment.name for trial in plan(load_sweep(path))] == ["mlp-mnist5k"]


def test_every_command_leads_to_the_folder_of_its_trial(write_sweep: Any, tmp_path: Path) -> None:
    """Values that YAML might read as something else: numbers with an exponent, words, lists, blanks."""
    sweep = write_sweep(
        "set: {name: 'true', optimizer.momentum: 1.0e-05}\n"
        "grid: {optimizer.lr: [1e-3, 0.00001, 1.0e+20], model.hidden: [[8, 4], [16]],\n"
        "       training.clip_grad_norm: [null, 1]}\n"
        "seeds: [0, 7]\n"
    )
    trials = plan(sweep)
    out = tmp_path / "a folder's name"
    folders = {trial.folder(out).path for trial in trials}
    assert len(folders) == len(trials) == 24
    for trial in trials:
        words = shlex.split(trial.command(out))
        assert words[:3] == ["whyadam", "train", str(tmp_path / "config.yaml")]
        options = [(words[place], words[place + 1]) for place in range(3, len(words), 2)]
        overrides = [value for option, value in options if option == "-s"]
        assert [parse_override(override) for override in overrides] == list(trial.changes)
        rest = dict(option for option in options if option[0] != "-s")
        experiment = load_experiment(Path(words[2]), [*overrides, f"seed={rest['--seed']}"])
        assert RunFolder.of(experiment, Path(rest["--out"])).path == trial.folder(out).path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sedes: [0]", "sweep.yaml: sedes: unknown key; did you mean seeds?"),
        ("seeds: 0-2", "sweep.yaml: seeds: '0-2' should be a range such as 0..2, or a list such as 0,1,5"),
        ("seeds: 2..0", "sweep.yaml: seeds: "),
        ("seeds: [1, 1]", "sweep.yaml: seeds: 1 is given twice"),
        ("grid: {optimizer.lr: [0.1, 0.1]}", "sweep.yaml: grid: optimizer.lr: 0.1 is given twice"),
        ("grid: {optimizer.lr: 0.1}", "sweep.yaml: grid: optimizer.lr: should be a list of values to try, got 0.1"),
        ("grid: {seed: [0, 1]}", "sweep.yaml: grid: a sweep has its seeds in seeds"),
        ("arms: {sgd: {gird: {}}}", "sweep.yaml: arms.sgd.gird: unknown key; did you mean grid?"),
        ("arms: {sgd: {grid: {optimizer.lrr: [1]}}}", "sgd lrr=1: optimizer.lrr: unknown key; did you mean lr?"),
        ("set: {model.name.x: 1}", "config.yaml: name is not a group of keys"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(write_sweep: Any, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(write_sweep(text))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("config: no-such.yaml\n")
    with pytest.raises(ConfigError, match=r"sweep\.yaml: config: no-such\.yaml is in none of"):
        load_sweep(path)


@pytest.mark.parametrize(
    ("text", "values"),
    [("a.b=1,2", (1, 2)), ("a.b=[1, 2],[3]", ([1, 2], [3])), ("a.b=sgd,adam", ("sgd", "adam")), ("a=true", (True,))],
)
def test_a_grid_on_the_command_line(text: str, values: tuple[Any, ...]) -> None:
    assert parse_grid(text)[1] == values


@pytest.mark.parametrize("text", ["lr", "lr=", "=1,2", "lr=[1", "lr={"])
def test_a_malformed_grid_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--grid .*(should be dotted\.key=a,b,c|not valid YAML)"):
        parse_grid(text)
