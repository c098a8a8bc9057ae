"""What each rule must do where the answer is known: constant gradients, limits, and other libraries."""

from __future__ import annotations

import math

import pytest
import torch
from whyadam.optimizers import ACClip, CClip, GClip, NormalizedSGD, Signum


def parameter(*values: float) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def move(optimizer, gradient) -> torch.Tensor:
    """How far one step with this gradient takes the only parameter, downhill counted positive."""
    (tensor,) = optimizer.param_groups[0]["params"]
    before = tensor.detach().clone()
    tensor.grad = torch.as_tensor(gradient, dtype=tensor.dtype).expand_as(tensor).clone()
    optimizer.step()
    return before - tensor.detach()


@pytest.mark.parametrize("rule", [GClip, CClip])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_without_a_limit_clipping_is_sgd_of_torch(rule, momentum):
    torch.manual_seed(0)
    ours, theirs = parameter(1.0, -2.0, 3.0), parameter(1.0, -2.0, 3.0)
    clipped = rule([ours], lr=0.1, clip=math.inf, momentum=momentum)
    sgd = torch.optim.SGD([theirs], lr=0.1, momentum=momentum)
    for _ in range(50):
        ours.grad = torch.randn(3, dtype=torch.float64) * 100
        theirs.grad = ours.grad.clone()
        clipped.step()
        sgd.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def test_gclip_is_sgd_behind_the_clipping_of_torch():
    """Another library's global norm, over two groups."""
    torch.manual_seed(0)
    ours = [parameter(1.0, 2.0), parameter(3.0)]
    theirs = [parameter(1.0, 2.0), parameter(3.0)]
    gclip = GClip([{"params": ours[:1]}, {"params": ours[1:]}], lr=0.1, clip=1.0, momentum=0.9)
    sgd = torch.optim.SGD(theirs, lr=0.1, momentum=0.9)
    for _ in range(50):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a) * 2
            b.grad = a.grad.clone()
        torch.nn.utils.clip_grad_norm_(theirs, 1.0)  # adds 1e-6 to the norm
        gclip.step()
        sgd.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


def test_gclip_scales_the_vector_and_cclip_the_coordinates():
    assert move(GClip([parameter(0.0, 0.0)], lr=0.5, clip=1.0), [3.0, 4.0]).tolist() == pytest.approx([0.3, 0.4])
    assert move(CClip([parameter(0.0, 0.0)], lr=0.5, clip=3.5), [3.0, -4.0]).tolist() == pytest.approx([1.5, -1.75])


@pytest.mark.parametrize("rule", [GClip, CClip])
def test_a_zero_gradient_moves_nothing(rule):
    assert move(rule([parameter(1.0, 2.0)], lr=1.0, clip=1.0), 0.0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
def test_acclip_warms_up_under_a_constant_gradient(alpha):
    """M = 1 − β₁ᵗ and τ = (1 − β₂ᵗ)^(1/α); catches a missing power, a bias correction, a clipped gradient."""
    optimizer = ACClip([parameter(0.0)], lr=1.0, alpha=alpha)
    for step in range(1, 401):
        momentum, threshold = 1 - 0.9**step, (1 - 0.99**step) ** (1 / alpha)
        expected = min(threshold / (momentum + 1e-5), 1) * momentum
        assert move(optimizer, 1.0).item() == pytest.approx(expected, rel=1e-10)


def test_acclip_warm_up_has_the_known_numbers():
    optimizer = ACClip([parameter(0.0)], lr=1.0, alpha=1.0)
    moves = [move(optimizer, 1.0).item() for _ in range(400)]
    assert [round(moves[step - 1], 3) for step in (1, 10, 100, 400)] == [0.010, 0.096, 0.634, 0.982]


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_acclip_grows_with_the_gradient_and_acclip_rms_does_not(alpha):
    torch.manual_seed(0)
    gradients = torch.randn(20, 5, dtype=torch.float64)
    for second_moment, growth in ((False, 1024.0), (True, 1.0)):
        small, large = (
            ACClip([parameter(*[0.0] * 5)], lr=1.0, eps=0.0, alpha=alpha, second_moment=second_moment) for _ in range(2)
        )
        for gradient in gradients:
            torch.testing.assert_close(
                move(large, 1024 * gradient), growth * move(small, gradient), rtol=1e-12, atol=1e-12
            )


def test_acclip_rms_is_nearly_adam():
    """At α = 2, once Adam's bias corrections are over, it is torch's Adam times 1/√β₂, where it does not clip."""
    torch.manual_seed(0)
    size = 1000
    ours, theirs = (torch.nn.Parameter(torch.zeros(size, dtype=torch.float64)) for _ in range(2))
    acclip = ACClip([ours], lr=1.0, eps=1e-12, alpha=2.0, second_moment=True)
    adam = torch.optim.Adam([theirs], lr=1.0, betas=(0.9, 0.99), eps=1e-12)
    for _ in range(3000):
        gradient = torch.randn(size, dtype=torch.float64)
        step, adam_step = move(acclip, gradient), move(adam, gradient)
    ratio = step / adam_step
    torch.testing.assert_close(ratio.median().item(), 1 / math.sqrt(0.99), rtol=1e-9, atol=0)
    assert (ratio < 1).double().mean() < 0.002


def test_signum_follows_the_sign_of_the_average_and_not_of_the_gradient():
    optimizer = Signum([parameter(0.0, 0.0, 0.0)], lr=0.5, momentum=0.9)
    assert move(optimizer, [7.0, -0.001, 0.0]).tolist() == [0.5, -0.5, 0.0]
    assert move(optimizer, [-1.0, 1.0, 0.0]).tolist() == [0.5, 0.5, 0.0]
    assert move(Signum([parameter(0.0, 0.0)], lr=0.5, momentum=0.0), [-1.0, 1.0]).tolist() == [-0.5, 0.5]


def test_normalized_sgd_takes_steps_of_one_length_along_the_average():
    tensors = [parameter(0.0), parameter(0.0)]
    optimizer = NormalizedSGD([{"params": tensors[:1]}, {"params": tensors[1:]}], lr=0.5, momentum=0.5)
    for gradients, direction in (([3.0, 4.0], [0.6, 0.8]), ([-3.0, 4.0], [-0.75, 3.0])):
        before = [tensor.item() for tensor in tensors]
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.grad = torch.full_like(tensor, gradient)
        optimizer.step()
        moved = [old - tensor.item() for old, tensor in zip(before, tensors, strict=True)]
        assert math.hypot(*moved) == pytest.approx(0.5)
        assert moved == pytest.approx([0.5 * part / math.hypot(*direction) for part in direction])


def test_normalized_sgd_stays_where_there_is_no_gradient():
    """Catches 0/0."""
    assert move(NormalizedSGD([parameter(1.0, 2.0)], lr=0.5), 0.0).tolist() == [0.0, 0.0]


def test_weight_decay_is_decoupled_and_applied_once(make):
    """Catches a penalty that passes through the rule, and a decay once per type or device (foreach)."""
    for foreach in (False, True):
        tensors = [torch.nn.Parameter(torch.ones(2, dtype=dtype)) for dtype in (torch.float64, torch.float32)]
        optimizer = make([{"params": tensors[:1]}, {"params": tensors[1:]}], foreach=foreach, weight_decay=0.5)
        lr = optimizer.param_groups[0]["lr"]
        for _ in range(3):
            for tensor in tensors:
                tensor.grad = torch.zeros_like(tensor)
            optimizer.step()
        for tensor in tensors:
            assert tensor.tolist() == pytest.approx([(1 - lr * 0.5) ** 3] * 2, rel=1e-6)


def test_a_small_weight_decay_is_right_in_single_precision():
    """A rounded factor 1 − 1e-6 would take 1.3 % too much from every weight at every step."""
    torch.manual_seed(0)
    start = torch.rand(10_000) + 0.5
    tensor = torch.nn.Parameter(start.clone())
    optimizer = CClip([tensor], lr=1e-3, clip=1.0, weight_decay=1e-3)
    for _ in range(100):
        tensor.grad = torch.zeros_like(tensor)
        optimizer.step()
    lost = 1 - tensor.detach().double().sum() / start.double().sum()
    assert lost.item() == pytest.approx(100e-6, rel=0.003)
