"""Sweeps that a study file takes over from another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from whyadam.configs.load import ConfigError, identity
from whyadam.studies.run import study_files
from whyadam.studies.study import load_study
from whyadam.studies.sweeps.plan import plan


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
