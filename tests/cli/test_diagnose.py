"""``whyadam diagnose`` on models that are in no registry, and on mistakes of the user's."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result
from whyadam.cli import app
from whyadam.errors import UserError
from whyadam.studies.diagnosis.subject import batch_size
from whyadam.studies.summary import SummaryRow, write_summary

MODULE = "parts_of_a_user"
EXAMPLE = "example_of_the_docs"

PAGE = Path(__file__).parents[2] / "docs" / "diagnose.md"


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a user's module in it, and a made-up summary of eight networks, as the working folder."""
    shutil.copy(Path(__file__).with_name(f"{MODULE}.py"), tmp_path)
    example = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    (tmp_path / f"{EXAMPLE}.py").write_text(example[1])
    quantities = ["gap", "js0", "js0_absolute", "scale_free_js0", "gradient_heterogeneity", "norm_tail0"]
    rows = [
        SummaryRow(study="made_up", scale="quick", subject=f"net{net}", quantity=quantity, seed=seed, value=net + seed)
        for net in range(8)
        for seed in range(2)
        for quantity in quantities
    ]
    write_summary(tmp_path / "summary.csv", rows)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for module in (MODULE, EXAMPLE):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path


CHEAP = ("--batches", "8", "--probes", "2", "--steps", "2", "--compare-with", "summary.csv")


def diagnose(*arguments: str, blocks: str = "3") -> Result:
    return CliRunner().invoke(app, ["diagnose", *CHEAP, "--blocks", blocks, *arguments])


def parts(model: str, data: str, loss: str, module: str = MODULE) -> list[str]:
    return ["--model", f"{module}:{model}", "--data", f"{module}:{data}", "--loss", f"{module}:{loss}"]


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("build", "batches", "loss", EXAMPLE), 10),
        (("distilbert", "sentences", "sentence_loss"), 3),
        (("Lstm", "tokens", "token_loss"), 20),
    ],
    ids=["mobilenet of the docs", "distilbert", "lstm"],
)
def test_models_of_no_registry(
    user: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], classes: int
) -> None:
    """A model, a form of batches or a loss that the measurements cannot take."""
    if "Lstm" not in names:
        # One picture is enough: it takes as long as all the rest.
        monkeypatch.setattr("whyadam.figures.predictors.draw_diagnosis", lambda *_: [])
    answer = diagnose(*parts(*names))
    assert answer.exit_code == 0, answer.exception
    assert "planned: up to 24 gradients of mini-batches, and 12 Hessian products in 3 blocks" in answer.stdout
    (path,) = user.glob(f"runs/diagnose/*.{names[0]}/diagnosis.json")
    found = json.loads(path.read_text())
    assert found["tails"]["norm_tail0"]["index"] > 0
    assert len(found["distances"]) == 3
    assert all(distance["value"] > 0 for distance in found["distances"].values())
    assert found["imbalance"]["classes"] == classes
    assert found["cost"]["seconds"]["curvature"] > 0
    assert {one["measure"]: one["networks"] for one in found["comparisons"]}["js0"] == 8
    assert all(sentence in answer.stdout for sentence in found["in_words"])
    assert ("BatchNorm was measured with calibrated statistics" in answer.stdout) == (EXAMPLE in names)
    if "Lstm" in names:
        assert path.with_name("diagnosis.png").stat().st_size > 10_000


@pytest.mark.parametrize(("data", "left_out"), [("last_is_smaller", "1 of 17"), ("smaller_between", "3 of 19")])
def test_batches_of_another_size_are_left_out_and_said(
    user: Path, monkeypatch: pytest.MonkeyPatch, data: str, left_out: str
) -> None:
    """A DataLoader keeps a smaller last batch; its gradient is noisier, and Gaussian noise was called heavy."""
    monkeypatch.setattr("whyadam.figures.predictors.draw_diagnosis", lambda *_: [])
    found = []
    for name, batches in (("even", "16"), (data, "17")):
        answer = diagnose(*parts("linear", name, "image_loss"), "--batches", batches, "--out", name, blocks="2")
        assert answer.exit_code == 0, answer.exception
        found.append(json.loads((user / name / "diagnosis.json").read_text()))
        assert ("left out of the noise" in answer.stdout) == (name != "even")
    assert f"{left_out} batches left out of the noise" in answer.stdout
    assert (found[0]["batches_left_out"], found[1]["batches_left_out"].split(" batches")[0]) == (None, left_out)
    for key in ("noise_verdicts", "tails", "distances", "imbalance"):
        assert found[0][key] == found[1][key], key


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (torch.zeros(3, 5), (3,)),
        ((torch.zeros(3, 5), torch.zeros(3)), (2, 3)),
        ({"x": torch.zeros(3, 5), "labels": torch.zeros(3), "scale": torch.tensor(1.0)}, (3,)),
        ([torch.zeros(4, 2), torch.zeros(7, 2)], (2,)),
        ({"tokens": torch.zeros(30), "ends": torch.zeros(4)}, None),
        ("text", None),
    ],
    ids=["tensor", "pair", "dictionary", "list of examples", "packed", "unknown"],
)
def test_what_counts_as_the_size_of_a_batch(batch: object, size: tuple[int, ...] | None) -> None:
    """Lengths of sequences taken for numbers of examples: every batch would be another one."""
    assert batch_size(batch) == size


def test_the_same_seed_gives_the_same_numbers(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader that shuffles by torch's own stream makes every diagnosis another one."""
    from whyadam.studies.diagnosis.measuring import diagnose, make_plan
    from whyadam.studies.diagnosis.subject import subject_of_functions

    monkeypatch.syspath_prepend(user)
    found = []
    for seed in (0, 0, 1):
        torch.rand(1)
        subject = subject_of_functions(*(f"{MODULE}:{name}" for name in ("Small", "images", "image_loss")), seed)
        found.append(diagnose(subject, make_plan(subject, batches=8, probes=2, steps=2, blocks=2)).values)
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("Lstm", "tokens", "tokken_loss"), f"--loss {MODULE}:tokken_loss: cannot import"),
        (
            ("no_module", "tokens", "token_loss"),
            "no_module: returned a dict, should return a torch.nn.Module",
        ),
        (("broken", "tokens", "token_loss"), "building the model failed: RuntimeError: no such file"),
        (("TOKENS", "tokens", "token_loss"), "is a Tensor, should be a function that builds the model"),
        (("Lstm", "nothing", "token_loss"), f"--data {MODULE}:nothing: gave no batch"),
        (("Lstm", "broken", "token_loss"), f"--data {MODULE}:broken: fetching batch 1 failed: RuntimeError"),
        (
            ("Lstm", "few", "token_loss"),
            "few: gave 2 batches for the reference gradient, 8 are needed",
        ),
        (("Lstm", "once", "token_loss"), "for the noise, 8 are needed; each call must begin anew"),
        (
            ("linear", "all_of_other_sizes", "image_loss"),
            "only 1 of 16 batches for the reference gradient have the size of the first; batches must be of one size",
        ),
        (("Lstm", "images", "token_loss"), f"--loss {MODULE}:token_loss: failed on the first batch: TypeError"),
        (("Lstm", "tokens", "mean_of_each"), "the loss should be a scalar tensor, not [4]; sum it over the batch"),
        (("Lstm", "tokens", "loss_alone"), "returned a Tensor, should return the summed loss and the number"),
        (("Lstm", "tokens", "infinite"), "the loss of the first batch is"),
        (("Lstm", "tokens", "detached"), "does not depend on a parameter of the model"),
        (("Lstm", "tokens", "no_terms"), "the number of terms is 0, should be positive"),
        (
            ("Fused", "tokens", "token_loss"),
            "Fused: an operation of the model has no second derivative",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_option(user: Path, names: tuple[str, str, str], expected: str) -> None:
    """A traceback out of the middle of a measurement."""
    answer = diagnose(*parts(*names))
    assert isinstance(answer.exception, UserError), answer.exception
    assert expected in str(answer.exception)
    assert len(str(answer.exception).splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "a:b"], "--data: missing; give --model, --data and --loss, or a config file"),
        ([], "--model: missing"),
        (["-s", "seed=1"], "-s seed=1: changes a config, but none is given"),
        (["config.yaml", "--loss", "a:b"], "--loss: leave it out with a config"),
        (["missing.yaml"], "missing.yaml: cannot be read"),
        ([*parts("Lstm", "tokens", "token_loss"), "--blocks", "no.such"], "--blocks: '3' fits no parameter"),
        (["--model", "no_such_package_here:f", "--data", "a:b", "--loss", "a:b"], "--model no_such_package_here:f: "),
        ([*parts("Lstm", "tokens", "token_loss"), "--compare-with", "none.csv"], "none.csv cannot be read"),
    ],
)
def test_a_wrong_command_line_is_one_line(user: Path, arguments: list[str], expected: str) -> None:
    """Options that contradict each other and are taken half."""
    answer = diagnose(*arguments)
    assert isinstance(answer.exception, UserError), answer.exception
    assert expected in str(answer.exception)


def test_a_single_block_is_refused(user: Path) -> None:
    """A heterogeneity of one block."""
    answer = diagnose(*parts("Lstm", "tokens", "token_loss"), blocks="1")
    assert isinstance(answer.exception, UserError)
    assert str(answer.exception).startswith("--blocks 1: should be at least 2")
