"""A quadratic from a config: training, evaluation, noise and curvature against what is known of it."""

from __future__ import annotations

import csv
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from whyadam.configs.load import identity, parse_experiment
from whyadam.data.quadratic import Quadratic
from whyadam.errors import UserError
from whyadam.tasks.problem import Problem, build_problem
from whyadam.training.metrics import read_metrics
from whyadam.training.run import run_experiment

BLOCKS = [[1, 2, 3], [99, 100, 101], [4998, 4999, 5000]]
EIGENVALUES = torch.tensor(BLOCKS).flatten().double()


@pytest.fixture
def config() -> dict[str, Any]:
    return {
        "name": "quadratic",
        "model": {"name": "point"},
        "data": {"name": "quadratic", "blocks": BLOCKS, "noise": {"name": "student_t", "alpha": 3}, "examples": 512},
        "task": {"name": "quadratic"},
        "optimizer": {"name": "sgd", "lr": 3e-4},
        "training": {"steps": 20, "batch_size": "full", "micro_batch_size": 100, "eval_every": 1, "log_every": 1},
    }


def problem_of(config: dict[str, Any]) -> Problem:
    experiment = parse_experiment(config, "test")
    return build_problem(experiment.model, experiment.data, experiment.task, experiment.seed)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("dense", [False, True])
def test_gradient_descent_follows_the_closed_form(config: dict[str, Any], tmp_path: Path, dense: bool) -> None:
    """L(w_k) = ½ Σ λᵢ (1 − lr λᵢ)^2k cᵢ², where c are the coordinates of the start among H's eigenvectors."""
    config["data"]["dense"] = dense
    problem = problem_of(config)
    hessian = problem.task.hessian.double()  # type: ignore[attr-defined]
    eigenvalues, vectors = torch.linalg.eigh(hessian)
    start = vectors.T @ problem.model().detach().double()
    wanted = [float((eigenvalues * (1 - 3e-4 * eigenvalues) ** (2 * k) * start**2).sum() / 2) for k in range(21)]
    rows = read_metrics(run_experiment(parse_experiment(config, "test"), tmp_path).folder.metrics)
    for split in ("eval", "train"):
        losses = [float(row["loss"]) for row in rows if row["split"] == split]
        assert len(losses) >= 20
        np.testing.assert_allclose(losses, wanted[: len(losses)], rtol=2e-4)


def test_the_full_batch_has_no_noise_and_a_mini_batch_has_that_of_its_examples(config: dict[str, Any]) -> None:
    problem = problem_of(config)
    w = problem.model().detach()
    exact = problem.task.hessian @ w  # type: ignore[attr-defined]
    noise = problem.train.batch([(0, index) for index in range(512)])["noise"]
    assert noise.abs().max() > 5
    for keys, added in ((range(512), torch.zeros(9)), (range(3, 7), noise[3:7].mean(0))):
        loss, count = problem.loss(problem.model, problem.train.batch([(0, index) for index in keys]))
        gradient = torch.cat(torch.autograd.grad(loss / count, list(problem.model.parameters())))
        torch.testing.assert_close(gradient, exact + added, rtol=1e-5, atol=2e-3)


@pytest.mark.parametrize(
    ("law", "verdict"), [({"name": "student_t", "alpha": 3}, "heavy"), ({"name": "gaussian"}, "gaussian")]
)
def test_the_measured_noise_has_the_tail_of_its_law(
    config: dict[str, Any], tmp_path: Path, law: dict[str, Any], verdict: str
) -> None:
    """Of single examples; their gradients come from vmap, so this also holds the loss to its being vectorisable."""
    # One Gaussian sample in twenty or so looks heavy by chance; this one does not.
    config["data"] |= {"noise": law, "examples": 1500, "sample": 1}
    config["training"] |= {"steps": 1, "batch_size": 8, "micro_batch_size": None}
    config["noise"] = {"batches": 8, "examples": 1500}
    folder = run_experiment(parse_experiment(config, "test"), tmp_path).folder
    rows = [row for row in table(folder.path / "noise.csv") if (row["scope"], row["batch_size"]) == ("all", "1")]
    (coordinates,) = [row for row in rows if row["statistic"] == "coordinates"]
    assert coordinates["verdict"] == verdict
    with np.load(folder.path / "noise" / "step_000000.npz") as samples:
        drawn = Quadratic.model_validate(config["data"]).load(0).train.batch([(0, index) for index in range(1500)])
        norms = np.sort(drawn["noise"].norm(dim=1).numpy())
        # The gradient at the start is thousands of times the noise: that many digits of it are lost in float32.
        np.testing.assert_allclose(np.sort(samples["example_norms"][:, -1]), norms, atol=5e-3)


def test_the_measured_curvature_is_that_of_the_blocks(config: dict[str, Any], tmp_path: Path) -> None:
    config["training"] |= {"steps": 1}
    config["hessian"] = {"blocks": "default", "batch_size": 2}
    folder = run_experiment(parse_experiment(config, "test"), tmp_path).folder
    nodes = table(folder.path / "hessian" / "step_000000" / "nodes.csv")
    assert [row["block"] for row in nodes] == [f"blocks.{block}" for block in (0, 0, 0, 1, 1, 1, 2, 2, 2)]
    np.testing.assert_allclose([float(row["node"]) for row in nodes], EIGENVALUES, rtol=1e-5)


def test_epochs_and_workers_are_those_of_any_data(config: dict[str, Any], tmp_path: Path) -> None:
    rows = []
    for change in ({"workers": 0}, {"workers": 2}):
        one = deepcopy(config)
        one["training"] |= {"batch_size": 64, "micro_batch_size": None, "steps": 16, **change}
        folder = run_experiment(parse_experiment(one, "test"), tmp_path / str(change["workers"])).folder
        rows.append([row | {"seconds": ""} for row in read_metrics(folder.metrics)])
    assert rows[0] == rows[1]
    assert rows[0][-1]["epoch"] == "2"
    assert rows[0][-1]["tokens"] == ""


def test_the_start_is_by_seed_or_as_given_and_everything_else_by_sample(config: dict[str, Any]) -> None:
    def parts(**changes: Any) -> tuple[torch.Tensor, ...]:
        changed = deepcopy(config) | {"seed": changes.pop("seed", 0)}
        changed["data"] |= changes
        problem = problem_of(changed)
        return problem.model(), problem.task.hessian, problem.train.batch([(0, 0)])["noise"]  # type: ignore[attr-defined]

    first = parts()
    assert [torch.equal(a, b) for a, b in zip(first, parts(seed=1), strict=True)] == [False, True, True]
    assert [torch.equal(a, b) for a, b in zip(first, parts(sample=1), strict=True)] == [True, False, False]
    config["model"]["start"] = list(range(9))
    assert parts()[0].tolist() == list(range(9))
    config["model"]["start"] = [1, 2]
    with pytest.raises(UserError, match=r"^model\.start: 2 coordinates, but points have 9$"):
        parts()


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("data", {"blocks": []}),
        ("data", {"blocks": [[1], []]}),
        ("data", {"blocks": [["steep"]]}),
        ("data", {"noise": {"name": "student_t", "alpha": 0}}),
        ("data", {"noise_scale": -1}),
        ("task", {"name": "classification"}),
        ("model", {"name": "mlp"}),
    ],
)
def test_what_makes_no_quadratic_is_refused_by_key(
    config: dict[str, Any], section: str, change: dict[str, Any]
) -> None:
    if "name" in change and section != "data":
        config[section] = change
    else:
        config[section] |= change
    with pytest.raises(UserError, match=r"^test: (data\.|task\.name)"):
        parse_experiment(config, "test")


def test_laws_that_differ_in_nothing_but_their_name_are_other_runs(config: dict[str, Any]) -> None:
    """All other keys of a law at their defaults are left out of the identity; its name must not be."""
    identities = set()
    for law in ("gaussian", "student_t", "pareto", "alpha_stable"):
        config["data"]["noise"] = {"name": law}
        identities.add(identity(parse_experiment(config, "test")))
    assert len(identities) == 4


def test_a_users_own_model_that_gives_no_point_is_refused(config: dict[str, Any]) -> None:
    config["model"] = {"name": "torch.nn:Identity"}
    with pytest.raises(UserError, match="the model cannot do quadratic on this data"):
        problem_of(config)
