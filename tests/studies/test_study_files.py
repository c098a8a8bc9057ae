"""Study files: mistakes in them, sweeps shared between them, and what running one leaves."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner
from whyadam.cli import app
from whyadam.configs.load import ConfigError, identity
from whyadam.figures.runs import find_runs
from whyadam.studies.run import STUDIES, find_study, known_studies, newest_summaries, study_files, study_folders
from whyadam.studies.study import DeclaredStudy, load_study
from whyadam.studies.summary import IncompleteError, read_summary
from whyadam.studies.sweeps.plan import plan


@pytest.fixture
def study(mlp_config: dict[str, Any]) -> dict[str, Any]:
    """Two rules tuned on one seed, and one moment that is measured."""
    start = {"training.steps": 1, "noise": {"batches": 8, "reference": 4}}
    start |= {"hessian": {"batch_size": 4, "tolerance": None, "steps": 3, "probes": 2}}
    arms = {
        "sgd": {"grid": {"optimizer.lr": [0.03, 0.1, 0.3]}},
        "adam": {"set": {"optimizer.name": "adam"}, "grid": {"optimizer.lr": [1e-3, 3e-3, 1e-2]}},
        "start": {"set": start},
    }
    sweep = {"config": "base.yaml", "tuning_seeds": [100], "seeds": "0..1", "arms": arms}
    quick = {
        "sweeps": {"digits": sweep},
        "quantities": [
            *("final_eval_loss", "accuracy", "gap", "js0", "js0_floor", "norm_tail0"),
            *("rarity_gap", "rare_half_loss", "frequent_half_loss"),
        ],
        "pictures": [{"draw": name} for name in ("loss", "predictors", "heterogeneity", "halves")],
    }
    return {"about": "A try.", "reproduces": "nothing", "scales": {"quick": quick}, "base": mlp_config}


def _write(folder: Path, study: dict[str, Any]) -> Path:
    content = dict(study)
    (folder / "base.yaml").write_text(yaml.safe_dump(content.pop("base")))
    path = folder / "try.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_summary_is_what_the_runs_say(tmp_path: Path, study: dict[str, Any]) -> None:
    """A number of the wrong run, or a gap of the wrong sign, differs from one taken by hand; equal runs are shared."""
    declared = DeclaredStudy("try", load_study(_write(tmp_path, study)))
    folder = tmp_path / "out" / "try" / "quick"
    folder.mkdir(parents=True)
    first, failure = declared.run(folder, "quick", 0, 1)
    assert failure is None

    rows = {(row.subject, row.quantity, row.seed): row for row in first}
    runs = {
        (run.experiment.optimizer.name, run.experiment.seed, run.experiment.optimizer.lr): run
        for run in find_runs([tmp_path / "out" / "runs"])
        if run.experiment.training.steps != 1
    }
    best = {}
    for name in ("sgd", "adam"):
        tuned = {
            lr: run.status["last_eval_loss"] for (rule, seed, lr), run in runs.items() if (rule, seed) == (name, 100)
        }
        assert len(tuned) == 3
        best[name] = min(tuned, key=lambda lr: tuned[lr])
        row = rows[f"digits/{name}", "final_eval_loss", 1]
        assert row.value == pytest.approx(runs[name, 1, best[name]].status["last_eval_loss"], rel=1e-6)
        assert (row.tried, row.at_edge) == (3, best[name] in (min(tuned), max(tuned)))
    sgd, adam = (runs[name, 1, best[name]] for name in ("sgd", "adam"))
    losses = [run.status["last_eval_loss"] for run in (sgd, adam)]
    start = adam.curve("eval")[1][0]
    assert rows["digits", "gap", 1].value == pytest.approx((losses[0] - losses[1]) / (start - losses[1]), rel=1e-5)
    assert rows["digits", "js0", 0].value > 0
    assert rows["digits", "js0", 0].tried is None
    assert ("digits", "js0", 100) not in rows, "what leaves no choice needs no tuning seed"
    rare, frequent = (
        rows["digits/sgd", half, 1].value - rows["digits/adam", half, 1].value
        for half in ("rare_half_loss", "frequent_half_loss")
    )
    assert rows["digits", "rarity_gap", 1].value == pytest.approx(rare - frequent, rel=1e-5)
    drawn = {"loss-digits.png", "predictors.png", "heterogeneity.png", "halves.png"}
    assert {path.name for path in folder.glob("*.png")} == drawn

    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("metrics.csv")}
    again = tmp_path / "out" / "another" / "quick"
    again.mkdir(parents=True)
    second, _ = declared.run(again, "quick", 0, 1)
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("metrics.csv")}
    assert second == first == declared.reread(again, "quick", 0)
    shutil.rmtree(sgd.path)
    with pytest.raises(IncompleteError, match=sgd.path.name):
        declared.reread(again, "quick", 0)


def test_a_failed_run_leaves_the_others_and_a_row_of_its_own(
    tmp_path: Path, study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bad run of many must not cost the numbers of all; nor may its arm look as if it had been left out."""
    shutil.copy(Path(__file__).with_name("noting.py"), tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sweep = study["scales"]["quick"]["sweeps"]["digits"]
    bad = {"set": {"optimizer.name": "noting:Unlucky", "optimizer.lr": 1.0}}
    untuned = {"set": {"optimizer.name": "noting:Failing"}, "grid": {"optimizer.lr": [1.0, 2.0]}}
    sweep["arms"] = {"sgd": {}, "bad": bad, "untuned": untuned}
    study["scales"]["quick"] |= {"quantities": ["final_eval_loss"], "pictures": [{"draw": "loss"}]}
    monkeypatch.setattr("whyadam.studies.run.study_files", lambda: {"try": _write(tmp_path, study)})
    answer = CliRunner().invoke(app, ["reproduce", "try", "--out", str(tmp_path / "out")])
    assert answer.exit_code == 1
    assert re.search(r"3 of 6 runs have failed, the first: untuned .* no step today", answer.output)

    (folder,) = study_folders(tmp_path / "out" / "try")
    rows = read_summary(folder / "summary.csv")
    assert [(row.subject, row.seed, row.state) for row in rows if row.quantity == "run"] == [
        ("digits/bad", 1, "failed"),
        ("digits/untuned", 0, "not tuned"),
        ("digits/untuned", 1, "not tuned"),
    ]
    assert [(row.subject, row.seed) for row in rows if not row.state] == [
        ("digits/sgd", 0),
        ("digits/sgd", 1),
        ("digits/bad", 0),
    ]
    assert newest_summaries([folder]) == [folder / "summary.csv"]
    assert not list(folder.glob("*.png"))


def test_another_seed_is_another_study(tmp_path: Path, study: dict[str, Any]) -> None:
    """With ``--seed 10`` every run must have another seed, the tuning runs too, and the folder another name."""
    declared = DeclaredStudy("try", load_study(_write(tmp_path, study)))
    assert declared.identity("quick", 0) != declared.identity("quick", 10)
    sweep = declared.settings("quick", 10)["sweeps"]["digits"]
    assert (sweep["seeds"], sweep["tuning_seeds"]) == ([10, 11], [110])


def test_a_change_of_the_config_is_another_study(tmp_path: Path, study: dict[str, Any]) -> None:
    """Results of an older config would otherwise be taken for those of the present one."""
    before = DeclaredStudy("try", load_study(_write(tmp_path, study))).identity("quick", 0)
    study["base"]["training"]["batch_size"] = 8
    assert DeclaredStudy("try", load_study(_write(tmp_path, study))).identity("quick", 0) != before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda quick: quick.update(quantities=["gapp"]), "gap"),
        (lambda quick: quick.update(pictures=[{"draw": "los"}]), "loss"),
        (lambda quick: quick.update(pictures=[{"draw": "loss", "sweeps": ["digit"]}]), "digits"),
        (lambda quick: quick["sweeps"]["digits"]["arms"]["sgd"]["grid"].update({"optimizer.lr": [0.1]}), "same size"),
        (lambda quick: quick["sweeps"]["digits"].update(config="none.yaml"), "none.yaml"),
        (lambda quick: quick.update(sweeps={}), "sweeps"),
    ],
)
def test_mistakes_name_what_would_be_right(tmp_path: Path, study: dict[str, Any], change: Any, named: str) -> None:
    """A wrong name found only after hours of runs."""
    change(study["scales"]["quick"])
    with pytest.raises(ConfigError, match=named):
        load_study(_write(tmp_path, study))


@pytest.mark.parametrize("name", sorted(study_files()))
def test_shipped_study_files_plan_their_runs(name: str) -> None:
    """A shipped study with a config that cannot be, or with two runs that are the same."""
    study = load_study(study_files()[name])
    for scale in study.scales.values():
        for sweep in scale.sweeps.values():
            experiments = [trial.experiment for trial in plan(sweep)]
            assert len({identity(experiment) for experiment in experiments}) == len(experiments)


def test_every_study_is_found() -> None:
    """A study that is listed but cannot be run."""
    assert set(STUDIES) | set(study_files()) == set(known_studies())
    assert all("quick" in find_study(name).scales for name in STUDIES)


@pytest.fixture
def write(tmp_path: Path, mlp_config: dict[str, Any]) -> Any:
    """Writes a study of one scale, with these sweeps and quantities."""
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(mlp_config))

    def write(name: str, sweeps: Any, *quantities: str) -> Path:
        quick = {"sweeps": sweeps, "quantities": list(quantities) or ["final_eval_loss"]}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"about": "A try.", "reproduces": "nothing", "scales": {"quick": quick}}))
        return path

    return write


def _digits(rates_of_adam: int = 2) -> dict[str, Any]:
    rates = [1e-3, 3e-3, 1e-2][:rates_of_adam]
    arms = {
        "sgd": {"grid": {"optimizer.lr": [0.03, 0.1]}},
        "adam": {"set": {"optimizer.name": "adam"}, "grid": {"optimizer.lr": rates}},
    }
    return {"config": "base.yaml", "tuning_seeds": [100], "seeds": "0..1", "arms": arms}


def test_it_is_the_same_runs(write: Any) -> None:
    """A sweep that is nearly the other's would train everything once more."""
    own = load_study(write("first", {"digits": _digits()})).scales["quick"].sweeps["digits"]
    taken = load_study(write("second", {"digits": {"of": "first"}})).scales["quick"].sweeps["digits"]
    assert [identity(trial.experiment) for trial in plan(taken)] == [identity(trial.experiment) for trial in plan(own)]


def test_what_is_asked_of_a_sweep_is_asked_of_one_taken_over(write: Any) -> None:
    """A gap between two rules of which one was tuned longer, let through because the sweep stands in another file."""
    write("first", {"digits": _digits(rates_of_adam=3)})
    with pytest.raises(ConfigError, match="same size"):
        load_study(write("second", {"digits": {"of": "first"}}, "gap"))


@pytest.mark.parametrize(
    ("sweeps", "said"),
    [
        ({"digits": {"of": "frist"}}, "there is no study frist; did you mean first"),
        ({"digit": {"of": "first"}}, "first has no such sweep at this scale; did you mean digits"),
        ({"digits": {"of": "first", "seeds": "0..5"}}, "leave out all but of: first"),
        ({"digits": {"of": "second"}}, "second has it of a study itself"),
        ({"digits": {"of": ["first"]}}, "there is no study"),
        ({"digits": {"of": "../first"}}, "there is no study"),
    ],
)
def test_mistakes_name_the_key_and_what_would_be_right(write: Any, sweeps: Any, said: str) -> None:
    """A traceback, or a study without the sweep."""
    write("first", {"digits": _digits()})
    with pytest.raises(ConfigError, match=said) as error:
        load_study(write("second", sweeps))
    assert f"scales.quick.sweeps.{next(iter(sweeps))}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("scale", ["quick", "gpu"])
def test_word_frequencies_are_of_the_runs_of_the_optimizer_curves(scale: str) -> None:
    """Grids that drift apart, so that the losses on rare words are those of other runs than the curves show."""
    curves, words = (load_study(study_files()[name]).scales[scale] for name in ("optimizer_curves", "word_frequencies"))
    assert set(words.sweeps) == {"gpt2_nano", "bert_nano"}
    assert all(sweep == curves.sweeps[name] for name, sweep in words.sweeps.items())
