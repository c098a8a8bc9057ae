"""telemetry() against what really happened, and that a step does not pay for it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from whyadam.optimizers import ACClip, CClip, GClip


class Operations(TorchDispatchMode):
    """Writes down the name of every tensor operation."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def two_groups() -> list[dict]:
    torch.manual_seed(0)
    tensors = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in ((3, 4), (5,), ())]
    return [{"params": tensors[:1]}, {"params": tensors[1:], "lr": 0.003}]


def one_step(optimizer, scale=1.0) -> None:
    for group in optimizer.param_groups:
        for tensor in group["params"]:
            tensor.grad = torch.randn_like(tensor) * scale
    optimizer.step()


def flat(optimizer, of=lambda tensor: tensor) -> torch.Tensor:
    tensors = [of(tensor) for group in optimizer.param_groups for tensor in group["params"]]
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def gradients(optimizer) -> torch.Tensor:
    return flat(optimizer, lambda tensor: tensor.grad)


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_norms_are_those_of_the_gradients_and_of_the_change(make, weight_decay):
    """The change includes weight decay, as in metrics.csv, where it is a difference of parameters."""
    optimizer = make(two_groups(), weight_decay=weight_decay)
    for _ in range(5):
        before = flat(optimizer)
        one_step(optimizer)
        told = optimizer.telemetry()
        assert told["update_norm"].item() == pytest.approx((flat(optimizer) - before).norm().item(), rel=1e-9)
        assert told["grad_norm"].item() == pytest.approx(gradients(optimizer).norm().item(), rel=1e-12)


def test_gclip_clips_all_or_nothing_and_says_so_by_group():
    optimizer = GClip(two_groups(), lr=0.1, clip=1.0)
    one_step(optimizer, scale=10.0)
    assert optimizer.telemetry()["clip_fraction"].item() == 1
    one_step(optimizer, scale=0.01)
    assert optimizer.telemetry()["clip_fraction"].item() == 0
    optimizer.param_groups[0]["clip"] = 100.0
    one_step(optimizer, scale=10.0)
    assert optimizer.telemetry()["clip_fraction"].item() == pytest.approx(6 / 18)


def test_cclip_counts_clamped_coordinates():
    optimizer = CClip(two_groups(), lr=0.1, clip=0.7, momentum=0.9)
    for _ in range(3):
        one_step(optimizer)
        expected = (gradients(optimizer).abs() > 0.7).double().mean().item()
        assert 0 < expected < 1
        assert optimizer.telemetry()["clip_fraction"].item() == pytest.approx(expected)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
def test_acclip_counts_the_coordinates_that_it_scales_down(alpha, eps):
    """What moved less than lr · |m|; the averages are kept here once more. Without any gradient nothing is scaled."""
    optimizer = ACClip(two_groups(), lr=0.1, betas=(0.9, 0.3), alpha=alpha, eps=eps)
    optimizer.param_groups[1]["lr"] = 0.1
    momentum, fractions = torch.zeros(18, dtype=torch.float64), []
    for step in range(1, 30):
        for group in optimizer.param_groups:
            for tensor in group["params"]:
                tensor.grad = torch.randn_like(tensor) * (step % 5)
        optimizer.param_groups[0]["params"][0].grad[0] = 0 if eps else 1
        before = flat(optimizer)
        optimizer.step()
        momentum = 0.9 * momentum + 0.1 * gradients(optimizer)
        scaled_down = (before - flat(optimizer)).abs() < 0.1 * momentum.abs() * (1 - 1e-9)
        fractions.append(scaled_down.double().mean().item())
        assert optimizer.telemetry()["clip_fraction"].item() == pytest.approx(fractions[-1])
    assert 0 < max(fractions) <= (14 / 18 if eps else 1)


def test_acclip_counts_what_eps_scales_down():
    """Gradients of 1e-5 settle at τ = |m| = 1e-5: every step is half of m, at eps = 1e-5, and nothing is above τ."""
    tensor = nn.Parameter(torch.zeros(1000, dtype=torch.float64))
    optimizer = ACClip([tensor], lr=1.0, eps=1e-5)
    for _ in range(3000):
        tensor.grad = torch.full_like(tensor, 1e-5)
        optimizer.step()
    assert optimizer.telemetry()["clip_fraction"].item() == 1
    assert optimizer.telemetry()["update_norm"].item() == pytest.approx(0.5e-5 * 1000**0.5, rel=1e-6)


def test_rules_that_do_not_clip_have_no_clip_fraction(form, make):
    optimizer = make(two_groups())
    one_step(optimizer)
    assert (optimizer.telemetry()["clip_fraction"] is None) == form.startswith(("signum", "normalized_sgd"))


def test_a_step_does_not_pay_for_telemetry_and_is_not_changed_by_it(form, make):
    asked, unasked = make(two_groups()), make(two_groups())
    recorded = []
    for optimizer in (asked, unasked):
        torch.manual_seed(1)
        with Operations() as operations:
            one_step(optimizer)
        if optimizer is asked:
            optimizer.telemetry()
        one_step(optimizer)
        recorded.append(operations.names)
    assert recorded[0] == recorded[1]
    assert torch.equal(flat(asked), flat(unasked))
    assert not any(name.startswith(("aten.gt", "aten.sum")) for name in recorded[0])
    if not form.startswith(("gclip", "normalized_sgd")):
        assert not any("norm" in name for name in recorded[0])


def test_telemetry_asks_for_gradients_and_a_step(make):
    optimizer = make(two_groups())
    with pytest.raises(RuntimeError, match="after step"):
        optimizer.telemetry()
    one_step(optimizer)
    optimizer.zero_grad()
    with pytest.raises(RuntimeError, match="before zero_grad"):
        optimizer.telemetry()
