"""One measurement: its numbers against dense matrices, and what it leaves as it was."""

from __future__ import annotations

import copy
from collections.abc import Iterable
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
from whyadam.hessian.measure import fixed_batches, measure_hessian
from whyadam.hessian.record import HessianRecord
from whyadam.hessian.settings import HessianSettings
from whyadam.tasks.problem import build_problem


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


def test_every_number_is_that_of_the_dense_matrix(
    network: nn.Module, batches: list[dict[str, Tensor]], loss: Any, tmp_path: Path
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
    assert not any(row.note for row in record.model(3))
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


def test_the_moments_of_adam_are_its_preconditioner(
    network: nn.Module, batches: list[dict[str, Tensor]], loss: Any
) -> None:
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
    network: nn.Module, batches: list[dict[str, Tensor]], loss: Any, tmp_path: Path
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
    network: nn.Module, batches: list[dict[str, Tensor]], loss: Any, tmp_path: Path
) -> None:
    """Both a diverged run and a user's one line."""
    batches[0]["x"][0, 0] = torch.nan
    with pytest.raises(FloatingPointError) as caught:
        measure_hessian(network, loss, batches, HessianSettings(), HessianRecord(tmp_path))
    assert isinstance(caught.value, UserError)


def notes(record: HessianRecord) -> dict[tuple[str, str], str]:
    """Why measures have no value, by measure and sigma."""
    assert all(row.value is not None or row.note for row in record.model(0))
    return {(row.measure, row.sigma): row.note for row in record.model(0) if row.value is None}


def test_a_measure_that_cannot_be_had_says_why(
    network: nn.Module, batches: list[dict[str, Tensor]], loss: Any, tmp_path: Path
) -> None:
    """A row that vanishes is taken for one that was never asked for."""
    records = [HessianRecord(tmp_path / name) for name in ("blocks", "weights", "one", "flat")]
    measure_hessian(network, loss, batches, HessianSettings(), records[0])
    assert notes(records[0]) == {("outside_blocks", ""): "the full Hessian was not measured: hessian.full=true"}
    measure_hessian(network, loss, batches, HessianSettings(full=True), records[1])
    assert "do not have all parameters" in notes(records[1])["outside_blocks", ""]
    measure_hessian(network, loss, batches, HessianSettings(blocks="0.weight", adam=True), records[2])
    few = notes(records[2])
    assert few["js_distance", "1%"] == few["adam_scale_free_wasserstein1", ""] == "fewer than two blocks"
    assert few["gradient_heterogeneity", ""].startswith("fewer than two blocks have a gradient")
    assert len([name for name, sigma in few if "distance" in name]) == 6

    def flat(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        total, count = loss(model, batch)
        return 0 * total + 0 * model[0].weight.sum(), count

    measure_hessian(network, flat, batches, HessianSettings(blocks="default", full=True), records[3])
    nothing = notes(records[3])
    assert nothing["directional_sharpness_sgd", ""] == "the step along which it is measured is zero"
    assert nothing["outside_blocks", ""] == "a Hessian that is zero has no curvature to share out"
    expected = "fewer than two blocks, without 4 blocks whose Hessian is zero"
    assert nothing["scale_free_js_distance", "1%"] == expected


def test_blocks_left_out_of_a_mean_are_said(
    network: nn.Module, batches: list[dict[str, Tensor]], loss: Any, tmp_path: Path
) -> None:
    """A classifier that starts at zero: the blocks below it have no curvature, so the mean is over fewer pairs."""
    with torch.no_grad():
        network[3].weight.zero_()
    record = HessianRecord(tmp_path)
    measure_hessian(network, loss, batches, HessianSettings(blocks="default"), record)
    rows = {(row.measure, row.sigma): row for row in record.model(0)}
    assert rows["scale_free_js_distance", "1%"].note == "without 2 blocks whose Hessian is zero"
    assert rows["js_distance", "1%"].note == ""


class Normalised(nn.Module):
    """Five inputs, BatchNorm, three outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def test_batch_norm_is_calibrated_before_training_and_recorded(
    batches: list[dict[str, Tensor]], loss: Any, network: nn.Module, tmp_path: Path
) -> None:
    """Spectra, sharpness and Adam's preconditioner of a step 0 are those of statistics set by hand."""
    torch.manual_seed(0)
    model, record, by_hand = Normalised().double(), HessianRecord(tmp_path / "a"), HessianRecord(tmp_path / "b")
    running = copy.deepcopy(model)
    measure_hessian(model, loss, batches[:1], HessianSettings(adam=True), record)
    assert record.how(0)["batch_norm"] == "calibrated"
    assert all(torch.equal(value, running.state_dict()[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        inputs = model.layers[0](batches[0]["x"])
        running.layers[1].running_mean.copy_(inputs.mean(0))
        running.layers[1].running_var.copy_(inputs.var(0))
    measure_hessian(running, loss, batches[:1], HessianSettings(adam=True, batch_norm="running"), by_hand)
    assert by_hand.how(0)["batch_norm"] == "running"
    for adam in (False, True):
        found, expected = record.spectra(0, adam=adam), by_hand.spectra(0, adam=adam)
        for name, spectrum in expected.items():
            torch.testing.assert_close(found[name].nodes, spectrum.nodes)
    for row, other in zip(record.model(0), by_hand.model(0), strict=True):
        assert (row.measure, row.note) == (other.measure, other.note)
        assert row.value is None or row.value == pytest.approx(other.value, rel=1e-6)
    measure_hessian(model, loss, batches, HessianSettings(), record, step=7)
    assert record.how(7)["batch_norm"] == "running"
    measure_hessian(network, loss, batches, HessianSettings(), record, step=8)
    assert "batch_norm" not in record.how(8), "there is none in the network"
