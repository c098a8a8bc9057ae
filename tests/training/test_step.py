"""One step: exact gradient accumulation, what is measured of it, and injected noise of a known law."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from whyadam.configs.load import ConfigError, dump_experiment, identity, load_experiment, parse_experiment
from whyadam.configs.schema import InjectedNoise, Training
from whyadam.data.noise_laws import NOISE_LAWS, AlphaStable, Gaussian
from whyadam.tasks.base import Batch
from whyadam.tasks.problem import Problem, build_problem
from whyadam.training.distributed import Replicated
from whyadam.training.metrics import read_metrics
from whyadam.training.run import run_experiment
from whyadam.training.step import accumulate_gradient, inject_noise, take_step


@pytest.fixture
def problem(gpt2_config: dict[str, Any]) -> Problem:
    gpt2_config["model"]["dropout"] = 0.0
    experiment = parse_experiment(gpt2_config, "test")
    return build_problem(experiment.model, experiment.data, experiment.task, seed=0)


@pytest.fixture
def masked_problem(gpt2_config: dict[str, Any]) -> Problem:
    """Every example has its own number of loss terms."""
    gpt2_config["model"] = {"name": "bert_nano", "n_layer": 1, "n_embd": 32, "n_head": 2, "dropout": 0.0}
    gpt2_config["task"] = {"name": "masked_lm"}
    experiment = parse_experiment(gpt2_config, "test")
    return build_problem(experiment.model, experiment.data, experiment.task, seed=0)


def gradient(problem: Problem, micro_batches: list[Batch]) -> torch.Tensor:
    problem.model.zero_grad()
    accumulate_gradient(Replicated(problem), micro_batches, "fp32")
    return torch.cat([p.grad.flatten() for p in problem.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("which", ["problem", "masked_problem"])
@pytest.mark.parametrize("sizes", [[2, 2, 2], [1, 5], [6]])
def test_any_split_in_micro_batches_gives_the_batchs_gradient(
    which: str, sizes: list[int], request: pytest.FixtureRequest
) -> None:
    """Averaging the averages of micro-batches would weigh tokens unequally."""
    problem: Problem = request.getfixturevalue(which)
    keys = [(0, index) for index in range(6)]
    whole = gradient(problem, [problem.train.batch(keys)])
    parts, start = [], 0
    for size in sizes:
        parts.append(problem.train.batch(keys[start : start + size]))
        start += size
    torch.testing.assert_close(gradient(problem, parts), whole, rtol=1e-5, atol=1e-7)


def test_the_measured_update_norm_is_the_way_gone(problem: Problem) -> None:
    """Plain SGD goes lr times the gradient's norm; also checks that measuring does not change the step."""
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.5)
    result = take_step(Replicated(problem), optimizer, [problem.train.batch([(0, 0)])], Training(steps=1), measure=True)
    assert result.update_norm is not None
    torch.testing.assert_close(result.update_norm, 0.5 * result.grad_norm, rtol=1e-4, atol=0)
    assert result.clip_fraction is None


def test_clip_grad_norm_applies_to_any_optimizer_and_the_norm_is_the_one_before(problem: Problem) -> None:
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=1.0)
    settings = Training(steps=1, clip_grad_norm=0.01)
    result = take_step(Replicated(problem), optimizer, [problem.train.batch([(0, 0)])], settings, measure=True)
    assert result.grad_norm > 0.1
    assert result.update_norm is not None
    assert float(result.update_norm) == pytest.approx(0.01, rel=1e-3)


def test_a_step_that_is_not_finite_is_not_taken(problem: Problem) -> None:
    first = next(problem.model.parameters())
    with torch.no_grad():
        first[0, 0] = float("inf")
    before = [parameter.detach().clone() for parameter in problem.model.parameters()]
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=1.0)
    result = take_step(Replicated(problem), optimizer, [problem.train.batch([(0, 0)])], Training(steps=1))
    assert not result.is_finite
    for parameter, old in zip(problem.model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)


STABLE = {"law": {"name": "alpha_stable", "alpha": 1.5}, "scale": 0.5}


def gradients() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(30, 20, generator=generator), torch.randn(400, generator=generator)]


def with_noise(config: dict[str, Any], noise: dict[str, Any] | None) -> dict[str, Any]:
    return config | {"training": config["training"] | {"inject_noise": noise}}


@pytest.mark.parametrize("law", list(NOISE_LAWS))
@pytest.mark.parametrize("size", [0.01, 1.0])
def test_the_median_noise_norm_is_the_scale_times_the_gradients_norm(law: str, size: float) -> None:
    """For every law and whatever the size of the gradient; 101 draws put the median within some ten per cent."""
    settings = InjectedNoise(law=NOISE_LAWS[law](), scale=0.5)
    ratios = []
    for seed in range(101):
        clean = [gradient * size for gradient in gradients()]
        noisy = [gradient.clone() for gradient in clean]
        inject_noise(noisy, settings, seed)
        noise = torch.cat([(new - old).flatten() for new, old in zip(noisy, clean, strict=True)])
        ratios.append(noise.norm() / torch.cat([gradient.flatten() for gradient in clean]).norm())
    assert float(torch.stack(ratios).median()) == pytest.approx(0.5, rel=0.2)


def test_noise_depends_on_the_seed_alone_and_differs_between_parameters() -> None:
    settings = InjectedNoise(law=Gaussian(), scale=1.0)
    drawn = []
    for seed in (1, 1, 2):
        noisy = [torch.ones(50), torch.ones(50)]
        inject_noise(noisy, settings, seed)
        drawn.append(noisy)
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert not torch.equal(drawn[0][0], drawn[2][0])
    assert not torch.equal(drawn[0][0], drawn[0][1])


def test_a_zero_gradient_stays_zero() -> None:
    noisy = [torch.zeros(10)]
    inject_noise(noisy, InjectedNoise(law=AlphaStable()), 0)
    assert not noisy[0].any()


def test_a_run_goes_on_to_the_same_bytes(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    """Stopped after its checkpoint of step 4; catches noise that depends on what was drawn before."""
    config = with_noise(mlp_config, STABLE)
    config["training"] |= {"checkpoint_every": 4, "log_every": 1}
    experiment = parse_experiment(config, "test")
    whole = run_experiment(experiment, tmp_path / "whole").folder
    cut = run_experiment(experiment, tmp_path / "cut").folder
    (cut.checkpoints / "step_000006.pt").unlink()
    cut.write_status(state="running")
    run_experiment(experiment, tmp_path / "cut")
    ends = [torch.load(folder.checkpoints / "step_000006.pt") for folder in (whole, cut)]
    assert all(torch.equal(ends[0]["model"][name], value) for name, value in ends[1]["model"].items())


def test_the_optimizer_and_its_telemetry_see_the_noise(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    """Clipping at half the clean gradient's norm clips all steps; noise ten times the gradient shows in its norm."""
    config = mlp_config | {"optimizer": {"name": "gclip", "lr": 1e-6, "clip": 1e9}}
    config["training"] |= {"steps": 1, "log_every": 1}
    norms = {}
    for name, noise in (("clean", None), ("noisy", {"law": {"name": "gaussian"}, "scale": 10.0})):
        folder = run_experiment(parse_experiment(with_noise(config, noise), "test"), tmp_path / name).folder
        (row,) = [row for row in read_metrics(folder.metrics) if row["split"] == "train"]
        norms[name] = float(row["grad_norm"])
        assert float(row["update_norm"]) == pytest.approx(1e-6 * norms[name], rel=0.05)
    assert norms["noisy"] / norms["clean"] == pytest.approx(101**0.5, rel=0.05)
    clipped = with_noise(config | {"optimizer": {"name": "gclip", "lr": 1e-6, "clip": 2 * norms["clean"]}}, None)
    noisy = with_noise(clipped, {"law": {"name": "gaussian"}, "scale": 10.0})
    fractions = []
    for name, one in (("clipped", clipped), ("clipped noisy", noisy)):
        rows = read_metrics(run_experiment(parse_experiment(one, "test"), tmp_path / name).folder.metrics)
        fractions += [float(row["clip_fraction"]) for row in rows if row["split"] == "train"]
    assert fractions == [0.0, 1.0]


def test_identities_tell_laws_apart_and_old_ones_stay(mlp_config: dict[str, Any]) -> None:
    """A law's name is a default of its class, which identities leave out elsewhere."""
    noises = [None, {"law": {"name": "gaussian"}}, {"law": {"name": "student_t"}}, {"law": {"name": "alpha_stable"}}]
    noises += [STABLE, STABLE | {"scale": 0.6}]
    identities = [identity(parse_experiment(with_noise(mlp_config, noise), "test")) for noise in noises]
    assert len(set(identities)) == len(noises)
    assert identities[0] == identity(parse_experiment(mlp_config, "test"))


def test_the_config_is_written_and_read_back(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    experiment = parse_experiment(with_noise(mlp_config, STABLE), "test")
    path = tmp_path / "config.yaml"
    path.write_text(dump_experiment(experiment))
    assert load_experiment(path) == experiment


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        ({"law": {"name": "alfa_stable"}}, "training.inject_noise.law.name: alfa_stable is not known"),
        ({"law": {"name": "pareto", "alfa": 1}}, "training.inject_noise.law.alfa: unknown key; did you mean alpha?"),
        (STABLE | {"scale": 0}, "training.inject_noise.scale: "),
    ],
)
def test_a_wrong_law_or_scale_is_one_line(mlp_config: dict[str, Any], noise: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected.replace("?", r"\?")):
        parse_experiment(with_noise(mlp_config, noise), "test")
