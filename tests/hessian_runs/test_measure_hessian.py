"""One measurement: its numbers against dense matrices, its interruption, its processes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian
from whyadam.configs.load import parse_experiment
from whyadam.errors import UserError
from whyadam.hessian import adam_step
from whyadam.hessian.measure import measure_hessian
from whyadam.hessian.record import HessianRecord
from whyadam.hessian.settings import HessianSettings
from whyadam.hessian.site import fixed_batches
from whyadam.tasks.problem import build_problem

PUBLISHED = HessianSettings(tolerance=None, steps=3, probes=3, adam=True)
"""A few products a block: no block of the network below is small enough to be computed exactly."""


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Dropout(), nn.Linear(4, 3)).double()


@pytest.fixture
def batches() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "x": torch.randn(count, 5, generator=generator, dtype=torch.float64),
            "y": torch.randint(3, (count,), generator=generator),
        }
        for count in (7, 4)
    ]


def loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"], reduction="sum"), len(batch["y"])


def dense(network: nn.Module, batches: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian of the mean loss over all parameters, in the order of named_parameters."""
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    shapes = [value.shape for value in parameters.values()]

    def mean_loss(flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in shapes])
        values = {name: part.view(shape) for name, part, shape in zip(parameters, parts, shapes, strict=True)}
        network.eval()
        x, y = (torch.cat([batch[key] for batch in batches]) for key in ("x", "y"))
        return nn.functional.cross_entropy(functional_call(network, values, (x,)), y)

    flat = torch.cat([value.flatten() for value in parameters.values()])
    return torch.func.grad(mean_loss)(flat), hessian(mean_loss)(flat)


def contents(record: HessianRecord) -> dict[str, bytes]:
    return {
        str(path.relative_to(record.folder)): path.read_bytes() for path in record.folder.rglob("*") if path.is_file()
    }


def test_every_number_is_that_of_the_dense_matrix(
    network: nn.Module, batches: list[dict[str, Tensor]], tmp_path: Path
) -> None:
    """Blocks, preconditioned blocks, the full Hessian, the two sharpnesses, and what lies outside the blocks."""
    record = HessianRecord(tmp_path)
    measure_hessian(network, loss, batches, HessianSettings(blocks="default", full=True, adam=True), record, step=3)
    gradient, matrix = dense(network, batches)
    scale = gradient.abs() + 1e-8
    preconditioned = matrix / (scale[:, None] * scale).sqrt()
    names = ["0.weight", "0.bias", "3.weight", "3.bias"]
    ends = torch.tensor([0, 20, 24, 36, 39])
    spectra, adam_spectra = record.spectra(3), record.spectra(3, adam=True)
    assert list(spectra) == ["full", *names]
    assert list(adam_spectra) == names
    torch.testing.assert_close(spectra["full"].nodes[0], torch.linalg.eigvalsh(matrix), rtol=0, atol=1e-12)
    for name, (start, end) in zip(names, pairwise(ends), strict=True):
        here = slice(start, end)
        for found, whole in ((spectra, matrix), (adam_spectra, preconditioned)):
            eigenvalues = torch.linalg.eigvalsh(whole[here, here])
            torch.testing.assert_close(found[name].nodes[0], eigenvalues, rtol=0, atol=1e-10 * float(whole.abs().max()))
    measures = {row.measure: row.value for row in record.model(3) if row.sigma == ""}
    step = gradient / scale
    inside = torch.block_diag(*[matrix[a:b, a:b] for a, b in pairwise(ends)])
    expected = {
        "directional_sharpness_sgd": gradient @ matrix @ gradient / gradient.square().sum(),
        "directional_sharpness_adam": step @ matrix @ step / step.square().sum(),
        "outside_blocks": 1 - inside.square().sum() / matrix.square().sum(),
    }
    for measure, value in expected.items():
        assert measures[measure] == pytest.approx(float(value), rel=1e-8)
    norms = {row["block"]: float(row["gradient_norm"]) for row in record.blocks(3)}
    assert norms["0.weight"] == pytest.approx(float(gradient[:20].norm()), rel=1e-8)
    assert norms["full"] == pytest.approx(float(gradient.norm()), rel=1e-8)
    assert record.how(3)["adam_source"] == "gradient"


def test_the_moments_of_adam_are_its_preconditioner(network: nn.Module, batches: list[dict[str, Tensor]]) -> None:
    optimizer = torch.optim.Adam(network.parameters())
    gradient = dict.fromkeys([name for name, _ in network.named_parameters()], torch.ones(1))
    assert adam_step(network, optimizer, gradient).source == "gradient"
    total, _ = loss(network, batches[0])
    total.backward()
    optimizer.step()
    step = adam_step(network, optimizer, gradient)
    assert step.source == "moments"
    own = network[0].weight.grad
    assert own is not None
    torch.testing.assert_close(step.scale["0.weight"], own.abs() + 1e-8)
    assert adam_step(network, torch.optim.SGD(network.parameters(), momentum=0.9), gradient).source == "gradient"


def test_nothing_of_the_model_or_the_random_streams_changes(
    network: nn.Module, batches: list[dict[str, Tensor]], tmp_path: Path
) -> None:
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    threads, stream = torch.get_num_threads(), torch.get_rng_state()
    measure_hessian(network, loss, batches, HessianSettings(full=True, adam=True), HessianRecord(tmp_path))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(module.training for module in network.modules())
    assert torch.equal(torch.get_rng_state(), stream)
    assert torch.get_num_threads() == threads


@pytest.fixture
def quadratures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is left until a probe's quadrature is interrupted, and how many there were: ``[left, done]``."""
    from whyadam.hessian import spectra

    counts, real = [10_000, 0], spectra.probe_quadrature

    def counted(*arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
        if counts[0] == 0:
            raise KeyboardInterrupt
        counts[:] = counts[0] - 1, counts[1] + 1
        return real(*arguments, **options)

    monkeypatch.setattr(spectra, "probe_quadrature", counted)
    return counts


def test_an_interrupted_measurement_goes_on_to_the_same_bytes(
    network: nn.Module, batches: list[dict[str, Tensor]], tmp_path: Path, quadratures: list[int]
) -> None:
    """The interruption comes within a block; the probes that were finished are not computed again."""
    whole, cut = HessianRecord(tmp_path / "whole"), HessianRecord(tmp_path / "cut")
    measure_hessian(network, loss, batches, PUBLISHED, whole)
    probes = quadratures[1]
    assert probes == 12
    quadratures[0] = 5
    with pytest.raises(KeyboardInterrupt):
        measure_hessian(network, loss, batches, PUBLISHED, cut)
    assert cut.steps() == []
    quadratures[:] = 10_000, 0
    measure_hessian(network, loss, batches, PUBLISHED, cut)
    assert quadratures[1] == probes - 5
    assert contents(cut) == contents(whole)


@pytest.mark.parametrize("change", ["weights", "batches", "effort", "seed"])
def test_finished_work_on_something_else_is_not_taken_over(
    change: str, network: nn.Module, batches: list[dict[str, Tensor]], tmp_path: Path, quadratures: list[int]
) -> None:
    cut, fresh = HessianRecord(tmp_path / "cut"), HessianRecord(tmp_path / "fresh")
    quadratures[0] = 5
    with pytest.raises(KeyboardInterrupt):
        measure_hessian(network, loss, batches, PUBLISHED, cut)
    quadratures[0] = 10_000
    settings, seed = PUBLISHED, 0
    if change == "weights":
        with torch.no_grad():
            network[3].bias[0] += 1e-9
    elif change == "batches":
        batches[1]["y"][0] = (batches[1]["y"][0] + 1) % 3
    elif change == "effort":
        settings = PUBLISHED.model_copy(update={"steps": 2})
    else:
        seed = 1
    for record in (cut, fresh):
        measure_hessian(network, loss, batches, settings, record, seed=seed)
    assert contents(cut) == contents(fresh)


def test_what_is_measured_already_is_left_alone(
    network: nn.Module, batches: list[dict[str, Tensor]], tmp_path: Path, quadratures: list[int]
) -> None:
    record = HessianRecord(tmp_path)
    measure_hessian(network, loss, batches, PUBLISHED, record)
    quadratures[:] = 0, 0
    measure_hessian(network, loss, batches, PUBLISHED.model_copy(update={"every": 5, "processes": 3}), record)
    with pytest.raises(KeyboardInterrupt):
        measure_hessian(network, loss, batches, PUBLISHED.model_copy(update={"blocks": "default"}), record)


def test_processes_change_no_byte(gpt2_config: dict[str, Any], tmp_path: Path) -> None:
    """Each builds the model anew: its weights, its batches and Adam's preconditioner must be those that were sent."""
    experiment = parse_experiment(gpt2_config, "test")
    parts = (experiment.model, experiment.data, experiment.task, experiment.seed)
    problem = build_problem(*parts)
    with torch.no_grad():
        for parameter in problem.model.parameters():
            parameter.mul_(1.5)
    settings = HessianSettings(batch_size=2, tolerance=None, steps=3, probes=2, adam=True)
    batches = fixed_batches(problem.train, settings, 0)
    records = []
    for processes in (1, 2):
        records.append(HessianRecord(tmp_path / str(processes)))
        chosen = settings.model_copy(update={"processes": processes, "blocks": "*h.1.attn*weight*"})
        build = partial(build_problem, *parts)
        measure_hessian(problem.model, problem.loss, batches, chosen, records[-1], build=build)
    assert contents(records[0]) == contents(records[1])


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (partial(os._exit, 1), "hessian.processes: a process died"),
        (partial(int, "three\nlines"), r"the curvature of 0\.weight: ValueError: invalid literal"),
    ],
)
def test_a_process_that_fails_is_said_in_one_line(
    build: Any, expected: str, network: nn.Module, batches: list[dict[str, Tensor]], tmp_path: Path
) -> None:
    """Killed for want of memory, say, or not able to build the model."""
    with pytest.raises(UserError, match=expected) as caught:
        measure_hessian(network, loss, batches, HessianSettings(processes=2), HessianRecord(tmp_path), build=build)
    assert "\n" not in str(caught.value)


def test_batches_are_the_same_at_every_step_and_no_example_comes_twice(mlp_config: dict[str, Any]) -> None:
    experiment = parse_experiment(mlp_config, "test")
    problem = build_problem(experiment.model, experiment.data, experiment.task, experiment.seed)
    drawn: list[Tensor] = []

    class Counted:
        def __len__(self) -> int:
            return len(problem.train)

        def batch(self, keys: Iterable[tuple[int, int]]) -> dict[str, Tensor]:
            drawn.append(torch.tensor([index for _, index in keys]))
            return {}

    settings = HessianSettings(batches=3, batch_size=10)
    assert len(fixed_batches(Counted(), settings, 0)) == 3
    fixed_batches(Counted(), settings, 0)
    first, second = torch.cat(drawn[:3]), torch.cat(drawn[3:])
    assert torch.equal(first, second)
    assert len(first.unique()) == 30
    with pytest.raises(UserError, match=r"hessian\.batch_size: 500 x 10 examples do not fit into the 4000"):
        fixed_batches(problem.train, HessianSettings(batches=500, batch_size=10), 0)


def test_a_loss_that_is_no_number_is_no_curvature(
    network: nn.Module, batches: list[dict[str, Tensor]], tmp_path: Path
) -> None:
    """Both a diverged run and a user's one line."""
    batches[0]["x"][0, 0] = torch.nan
    with pytest.raises(FloatingPointError) as caught:
        measure_hessian(network, loss, batches, PUBLISHED, HessianRecord(tmp_path))
    assert isinstance(caught.value, UserError)
