"""BatchNorm while curvature is measured: against statistics set by hand, torch's update_bn and finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import update_bn
from whyadam.errors import UserError
from whyadam.hessian import HessianOperator, batch_norm_statistics, dense_matrix, mean_gradient

Batch = tuple[Tensor, Tensor]
Statistics = Literal["running", "calibrated", "batch"]


def summed(model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
    return cross_entropy(model(batch[0]), batch[1], reduction="sum"), len(batch[1])


def data(sizes: tuple[int, ...] = (6, 6)) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        (3 + 5 * torch.randn(n, 4, generator=generator).double(), torch.randint(3, (n,), generator=generator))
        for n in sizes
    ]


def network(layers: int = 1) -> nn.Sequential:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5)]
    return nn.Sequential(*parts, nn.Linear(4, 3)).double()


def hessian(model: nn.Module, batches: list[Batch]) -> Tensor:
    operator = HessianOperator(model, summed, batches)
    return dense_matrix(operator.matmat, operator.size)


def measured(model: nn.Module, batches: list[Batch], statistics: Statistics) -> tuple[Tensor, dict[str, Tensor]]:
    with batch_norm_statistics(model, summed, batches, statistics):
        return hessian(model, batches), mean_gradient(model, summed, batches)


def test_calibrated_is_the_model_whose_statistics_were_set_by_hand() -> None:
    """The layer's input is known: the mean and the variance of x Wᵀ + b over the batch."""
    (batch,) = data((7,))
    model, by_hand = network(), network()
    with torch.no_grad():
        inputs = by_hand[0](batch[0])
        by_hand[1].running_mean.copy_(inputs.mean(0))
        by_hand[1].running_var.copy_(inputs.var(0))
    found, gradient = measured(model, [batch], "calibrated")
    torch.testing.assert_close(found, hessian(by_hand, [batch]))
    expected = mean_gradient(by_hand, summed, [batch])
    assert all(torch.allclose(gradient[name], expected[name]) for name in expected)
    assert not torch.allclose(found, hessian(model, [batch]), rtol=0.1)


def test_calibrated_statistics_are_those_of_torch() -> None:
    """Several layers and batches; the statistics of a pass with dropout, or of the last batch alone, would differ."""
    model, other, batches = network(3), network(3), data()
    for module in other:
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    update_bn([inputs for inputs, _ in batches], other)
    torch.testing.assert_close(measured(model, batches, "calibrated")[0], hessian(other, batches))


def test_batch_differentiates_the_loss_in_training_mode() -> None:
    """Statistics held constant, as in evaluation, would lose their own derivatives."""
    model, batches = network(2), data()
    found, gradient = measured(model, batches, "batch")

    def gradients() -> Tensor:
        model.train()
        for module in model:
            module.training = isinstance(module, nn.BatchNorm1d)
        total = sum(summed(model, batch)[0] for batch in batches) / 12
        return torch.cat([part.flatten() for part in torch.autograd.grad(total, list(model.parameters()))])

    torch.testing.assert_close(torch.cat([part.flatten() for part in gradient.values()]), gradients())
    columns, step = [], 1e-5
    for parameter in model.parameters():
        for place in range(parameter.numel()):
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter.view(-1)[place] += sign * step
                ends.append(gradients())
                with torch.no_grad():
                    parameter.view(-1)[place] -= sign * step
            columns.append((ends[0] - ends[1]) / (2 * step))
    torch.testing.assert_close(found, torch.stack(columns), rtol=1e-5, atol=1e-6)


def test_running_statistics_are_used_as_they_are() -> None:
    model, batches = network(), data()
    expected = hessian(model, batches)
    torch.testing.assert_close(measured(model, batches, "running")[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("statistics", ["running", "calibrated", "batch"])
@pytest.mark.parametrize("fail", [False, True])
def test_the_model_is_restored(statistics: Statistics, fail: bool) -> None:
    """Also when the measurement fails; training would go on from the measured data's statistics."""
    model = network(2).train()
    model(data()[0][0])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    objects = {name: id(buffer) for name, buffer in model.named_buffers()}
    model[1].eval()
    modes = [module.training for module in model.modules()]

    class Stopped(Exception):  # noqa: N818 - stands for a signal, which is no error
        pass

    try:
        with batch_norm_statistics(model, summed, data(), statistics):
            hessian(model, data())
            if fail:
                raise Stopped
    except Stopped:
        assert fail
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name: id(buffer) for name, buffer in model.named_buffers()} == objects
    assert [module.training for module in model.modules()] == modes
    assert model[1].momentum == 0.1


@pytest.mark.parametrize("statistics", ["calibrated", "batch"])
def test_a_single_value_per_channel_is_refused_in_one_line(statistics: Statistics) -> None:
    with pytest.raises(UserError, match=r"hessian\.batch_norm: .*several values per channel.*batch_size") as caught:
        measured(network(), data((1,)), statistics)
    assert "\n" not in str(caught.value)


def test_layers_without_running_statistics_are_left_alone() -> None:
    """They normalise by the batch in every mode."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)).double()
    found = [measured(model, data(), statistics)[0] for statistics in ("running", "calibrated", "batch")]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.fixture
def deep_resnet(case_named: Callable[..., Any]) -> Any:
    return case_named("resnet")


def test_calibration_brings_signals_through_an_untrained_network(deep_resnet: Any, loss: Any) -> None:
    """Each BatchNorm layer of a residual network puts out mean 0 and variance 1 on the measured batch."""
    images = torch.randn(16, 3, 8, 8, dtype=torch.float64)
    batch = (images, torch.zeros(16, dtype=torch.int64))
    outputs: list[Tensor] = []
    layers = [module for module in deep_resnet.model.modules() if isinstance(module, nn.BatchNorm2d)]
    for layer in layers:
        layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output.clone()))
    with batch_norm_statistics(deep_resnet.model, loss, [batch], "calibrated"), torch.no_grad():
        outputs.clear()
        deep_resnet.model.eval()(images)
    assert len(outputs) == len(layers) > 4
    for output in outputs:
        flat = output.transpose(0, 1).flatten(1)
        torch.testing.assert_close(flat.mean(1), torch.zeros(len(flat)).double(), rtol=0, atol=0.05)
        torch.testing.assert_close(flat.var(1), torch.ones(len(flat)).double(), rtol=0, atol=0.1)
