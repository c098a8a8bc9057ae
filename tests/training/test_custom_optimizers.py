"""A user's own optimizer: closures, names and groups of parameters, two modes, and errors in one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from whyadam.configs.load import parse_experiment
from whyadam.configs.schema import Training
from whyadam.errors import UserError
from whyadam.tasks.problem import Problem, build_problem
from whyadam.training.checkpoint import Checkpoints, load_checkpoint
from whyadam.training.distributed import Replicated
from whyadam.training.metrics import read_metrics
from whyadam.training.run import RunResult, run_experiment
from whyadam.training.step import take_step


class NeedsClosure(torch.optim.SGD):
    """SGD that asks for the loss twice, and writes down what it is told."""

    def step(self, closure):
        with torch.no_grad():
            self.told = [(closure(), [p.grad.clone() for p in self.param_groups[0]["params"]]) for _ in range(2)]
        super().step()


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimization as its public code has it: the closure is optional by signature, not in truth."""

    def __init__(self, params, lr, rho=0.05):
        super().__init__(params, {"lr": lr, "rho": rho})

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is not None, "requires closure"
        (group,) = self.param_groups
        norm = torch.stack([p.grad.norm() for p in group["params"]]).norm()
        for p in group["params"]:
            self.state[p]["old"] = p.clone()
            p.add_(p.grad, alpha=group["rho"] / norm.item())
        self.zero_grad()
        torch.enable_grad()(closure)()
        for p in group["params"]:
            p.copy_(self.state[p]["old"] - group["lr"] * p.grad)


class ScheduleFree(torch.optim.Optimizer):
    """Schedule-free SGD (Defazio et al. 2024): y is trained, x = y + (1 − 1/β)·(z − y) is evaluated."""

    def __init__(self, params, lr, beta=0.9):
        super().__init__(params, {"lr": lr, "beta": beta, "train_mode": False, "k": 0})

    def _to(self, training, weight):
        for group in self.param_groups:
            if group["train_mode"] != training:
                for p in group["params"]:
                    if "z" in self.state[p]:
                        p.data.lerp_(self.state[p]["z"], weight(group["beta"]))
                group["train_mode"] = training

    def train(self):
        self._to(True, lambda beta: 1 - beta)

    def eval(self):
        self._to(False, lambda beta: 1 - 1 / beta)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            if not group["train_mode"]:
                raise RuntimeError("not in training mode")
            group["k"] += 1
            c = 1 / group["k"]
            for p in group["params"]:
                z = self.state[p].setdefault("z", p.clone())
                p.lerp_(z, c)
                p.add_(p.grad, alpha=group["lr"] * (group["beta"] * (1 - c) - 1))
                z.sub_(p.grad, alpha=group["lr"])


class Fails(torch.optim.SGD):
    def step(self, closure=None):
        raise KeyError("several\nlines")


class OnlyInEvaluation(nn.Module):
    """Gives a tuple in training mode."""

    def __init__(self, classes=10):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4), nn.BatchNorm1d(4), nn.Linear(4, classes))

    def forward(self, images):
        logits = self.layers(images)
        return (logits, logits) if self.training else logits


class WithDropout(OnlyInEvaluation):
    def forward(self, images):
        return self.layers(nn.functional.dropout(images, 0.5, self.training))


@pytest.fixture
def run(mlp_config: dict[str, Any], tmp_path: Path) -> Any:
    def run(optimizer: dict[str, Any], out: str = "runs", **training: Any) -> RunResult:
        config = mlp_config | {"optimizer": optimizer, "training": mlp_config["training"] | training}
        return run_experiment(parse_experiment(config, "test"), tmp_path / out)

    return run


@pytest.fixture
def problem(mlp_config: dict[str, Any]) -> Problem:
    experiment = parse_experiment(mlp_config, "test")
    return build_problem(experiment.model, experiment.data, experiment.task, seed=0)


def step(problem: Problem, optimizer: Any, *, dropout_seed: int | None = None, **training: Any) -> Any:
    batches = [problem.train.batch([(0, index) for index in range(start, start + 4)]) for start in (0, 4)]
    settings = Training.model_validate({"steps": 1, **training})
    return take_step(Replicated(problem), optimizer, batches, settings, noise_seed=3, dropout_seed=dropout_seed)


def by_hand(problem: Problem, weights: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Mean loss over the eight examples and its gradient, at other weights."""
    batch = problem.train.batch([(0, index) for index in range(8)])
    names = [name for name, _ in problem.model.named_parameters()]
    leaves = [weight.clone().requires_grad_() for weight in weights]
    logits = torch.func.functional_call(problem.model, dict(zip(names, leaves, strict=True)), (batch["images"],))
    loss = nn.functional.cross_entropy(logits, batch["labels"])
    return loss.detach(), list(torch.autograd.grad(loss, leaves))


def weights_of(problem: Problem) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in problem.model.parameters()]


def test_lbfgs_takes_the_steps_of_a_loop_by_hand(problem: Problem) -> None:
    """The closure gives the loss and the gradient of the complete batch at the weights of the moment."""
    twin = [weight.requires_grad_() for weight in weights_of(problem)]
    theirs = torch.optim.LBFGS(twin, lr=0.5, max_iter=4)

    def closure() -> torch.Tensor:
        loss, gradients = by_hand(problem, [weight.detach() for weight in twin])
        for weight, gradient in zip(twin, gradients, strict=True):
            weight.grad = gradient
        return loss

    ours = torch.optim.LBFGS(problem.model.parameters(), lr=0.5, max_iter=4)
    for _ in range(3):
        step(problem, ours)
        theirs.step(closure)
    torch.testing.assert_close(weights_of(problem), [weight.detach() for weight in twin], rtol=1e-4, atol=1e-6)


def test_an_optimizer_that_refuses_to_go_without_its_closure_gets_it(problem: Problem) -> None:
    """SAM: x ← x − lr · ∇f(x + rho · g/‖g‖), here by hand over two steps."""
    optimizer, weights = SAM(problem.model.parameters(), lr=0.1, rho=0.2), weights_of(problem)
    for _ in range(2):
        step(problem, optimizer)
        _, gradients = by_hand(problem, weights)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        raised = [weight + 0.2 * gradient / norm for weight, gradient in zip(weights, gradients, strict=True)]
        _, gradients = by_hand(problem, raised)
        weights = [weight - 0.1 * gradient for weight, gradient in zip(weights, gradients, strict=True)]
    torch.testing.assert_close(weights_of(problem), weights, rtol=1e-4, atol=1e-6)


def test_a_closure_sees_the_same_dropout_noise_and_clipping_each_time(mlp_config: dict[str, Any]) -> None:
    """Otherwise a line search compares losses of different functions."""
    config = mlp_config | {"model": {"name": f"{__name__}:WithDropout"}}
    experiment = parse_experiment(config, "test")
    problem = build_problem(experiment.model, experiment.data, experiment.task, seed=0)
    optimizer = NeedsClosure(problem.model.parameters(), lr=0.1)
    noise = {"law": {"name": "gaussian"}, "scale": 1.0}
    step(problem, optimizer, dropout_seed=5, clip_grad_norm=0.01, inject_noise=noise)
    (loss, gradients), (again, same) = optimizer.told
    assert loss == again
    assert all(torch.equal(one, other) for one, other in zip(gradients, same, strict=True))
    assert torch.cat([gradient.flatten() for gradient in gradients]).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_weights_and_rows_of_a_closure_run_are_those_of_an_interrupted_one(run: Any, tmp_path: Path) -> None:
    whole = run({"name": "torch.optim:LBFGS", "lr": 0.1, "max_iter": 2}, "whole", checkpoint_every=2)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    cut = Path(str(whole.folder.path).replace("/whole/", "/cut/"))
    (cut / "checkpoints" / "step_000006.pt").unlink()
    (cut / "status.json").write_text('{"state": "interrupted"}')
    run({"name": "torch.optim:LBFGS", "lr": 0.1, "max_iter": 2}, "cut", checkpoint_every=2)
    assert_same_end(whole.folder.path, cut)


def assert_same_end(one: Path, other: Path) -> None:
    rows = [[row | {"seconds": ""} for row in read_metrics(folder / "metrics.csv")] for folder in (one, other)]
    assert rows[0] == rows[1]
    states = [load_checkpoint(Checkpoints(folder / "checkpoints").path(6)) for folder in (one, other)]
    for name, weights in states[0]["model"].items():
        assert torch.equal(weights, states[1]["model"][name])


def test_a_schedule_free_optimizer_is_evaluated_at_its_average(run: Any, mlp_config: dict[str, Any]) -> None:
    """The last row is the loss at x, computed here from y and z; a checkpoint holds x, and y beside it."""
    folder = run({"name": f"{__name__}:ScheduleFree", "lr": 0.5}).folder
    checkpoint = load_checkpoint(Checkpoints(folder.checkpoints).path(6))
    experiment = parse_experiment(mlp_config, "test")
    problem = build_problem(experiment.model, experiment.data, experiment.task, seed=0)
    states = checkpoint["optimizer"]["state"]
    for number, (parameter, y) in enumerate(
        zip(problem.model.parameters(), checkpoint["training_weights"], strict=True)
    ):
        parameter.data = y + (1 - 1 / 0.9) * (states[number]["z"] - y)
    for name, weights in problem.model.state_dict().items():
        torch.testing.assert_close(checkpoint["model"][name], weights)
    held_out = problem.evaluation.batch([(0, index) for index in range(64)])
    loss = nn.functional.cross_entropy(problem.model(held_out["images"]), held_out["labels"]).item()
    last = [row for row in read_metrics(folder.metrics) if row["split"] == "eval"][-1]
    assert float(last["loss"]) == pytest.approx(loss, rel=1e-5)


def test_evaluations_and_interruptions_change_no_bit_of_a_schedule_free_run(run: Any, tmp_path: Path) -> None:
    """Going to x and back rounds; the trained weights must come back as they were."""
    optimizer = {"name": f"{__name__}:ScheduleFree", "lr": 0.5}
    whole = run(optimizer, "whole", checkpoint_every=100, eval_every=100).folder.path
    often = run(optimizer, "often", checkpoint_every=1, eval_every=1).folder.path
    y = [load_checkpoint(Checkpoints(run / "checkpoints").path(6))["training_weights"] for run in (whole, often)]
    assert all(torch.equal(one, other) for one, other in zip(*y, strict=True))
    run(optimizer, "cut", checkpoint_every=2)
    complete = next((tmp_path / "cut" / "tiny").iterdir())
    shutil.copytree(complete, tmp_path / "copy")
    (complete / "checkpoints" / "step_000006.pt").unlink()
    (complete / "status.json").write_text('{"state": "interrupted"}')
    run(optimizer, "cut", checkpoint_every=2)
    assert_same_end(complete, tmp_path / "copy")


def test_an_error_of_a_users_optimizer_is_one_line(run: Any) -> None:
    with pytest.raises(UserError, match=r"Fails fails in step\(\): 'several\\nlines'$"):
        run({"name": f"{__name__}:Fails", "lr": 0.1})


def test_an_error_of_our_own_optimizers_stays_what_it_is(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no mistake of the user's."""

    def breaks(self, closure=None):
        raise RuntimeError("a bug")

    monkeypatch.setattr(torch.optim.Adam, "step", breaks)
    with pytest.raises(RuntimeError, match="a bug"):
        step(problem, torch.optim.Adam(problem.model.parameters()))


def test_a_model_that_fits_in_evaluation_mode_only_is_refused(mlp_config: dict[str, Any]) -> None:
    """One line before training; what is tried leaves running statistics and random numbers as they are."""
    experiment = parse_experiment(mlp_config | {"model": {"name": f"{__name__}:OnlyInEvaluation"}}, "test")
    with pytest.raises(UserError, match=r"the model cannot do classification on this data in training mode: .*tuple"):
        build_problem(experiment.model, experiment.data, experiment.task, seed=0)
    fits = parse_experiment(mlp_config | {"model": {"name": f"{__name__}:WithDropout"}}, "test")
    torch.manual_seed(7)
    model = build_problem(fits.model, fits.data, fits.task, seed=0).model
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(1))
    assert model.layers[2].num_batches_tracked == 0
    assert torch.equal(model.layers[2].running_mean, torch.zeros(4))
