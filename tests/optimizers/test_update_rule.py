"""What torch users expect of an optimizer: checkpoints, schedules, scalers, groups, types, and clear refusals."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from whyadam.optimizers import ACClip, CClip, GClip, Signum

TYPES = [torch.float32, torch.bfloat16, torch.float64, torch.float16]


def tensors_of(types) -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(3, 2, dtype=torch.float64).to(dtype)) for dtype in types]


def steps(optimizer, numbers) -> None:
    """Steps whose gradients depend on nothing but their number."""
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        for group in optimizer.param_groups:
            for tensor in group["params"]:
                tensor.grad = torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
        optimizer.step()


@pytest.mark.parametrize("foreach", [False, True])
def test_a_cut_and_continued_run_has_the_same_bits(make, foreach):
    """Through a file that needs no pickle; half-precision parameters keep their float32 state."""
    whole = tensors_of(TYPES)
    optimizer = make(whole, foreach=foreach, weight_decay=0.1)
    steps(optimizer, range(5))
    file = io.BytesIO()
    torch.save({"parameters": [tensor.detach() for tensor in whole], "optimizer": optimizer.state_dict()}, file)
    steps(optimizer, range(5, 10))

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    continued = [nn.Parameter(tensor) for tensor in saved["parameters"]]
    fresh = make(continued, foreach=foreach)
    fresh.load_state_dict(saved["optimizer"])
    steps(fresh, range(5, 10))
    for one, other in zip(whole, continued, strict=True):
        assert torch.equal(one, other)
        assert optimizer.state[one].keys() == fresh.state[other].keys()
        for name, value in optimizer.state[one].items():
            assert value.dtype == fresh.state[other][name].dtype
            assert torch.equal(value, fresh.state[other][name])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_a_copied_optimizer_goes_on_by_itself(make, duplicate):
    """Catches an optimizer that keeps something torch does not copy."""
    optimizer = make(tensors_of(TYPES))
    steps(optimizer, range(3))
    other = duplicate(optimizer)
    steps(optimizer, range(3, 6))
    steps(other, range(3, 6))
    for one, two in zip(optimizer.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
        assert one is not two
        assert torch.equal(one, two)


def test_half_precision_keeps_its_state_in_single_precision(make):
    """In float16 ACClip's eps of 1e-5 is nearly nothing, and bfloat16 averages stop after a few steps."""
    half, single = tensors_of([torch.bfloat16]), tensors_of([torch.bfloat16])
    single = [nn.Parameter(tensor.detach().float()) for tensor in single]
    of_half, of_single = make(half), make(single)
    for number in range(200):
        gradient = torch.randn(3, 2, generator=torch.Generator().manual_seed(number)).bfloat16()
        half[0].grad, single[0].grad = gradient, gradient.float()
        of_half.step()
        of_single.step()
    assert half[0].dtype == torch.bfloat16
    for name, value in of_half.state[half[0]].items():
        assert value.dtype == torch.float32
        assert torch.equal(value, of_single.state[single[0]][name])


def test_gradients_are_left_as_they_are(make):
    """Clipping in place would spoil what other code reads from them."""
    tensors = tensors_of([torch.float32])
    optimizer = make(tensors)
    gradient = torch.randn(3, 2)
    tensors[0].grad = gradient.clone()
    optimizer.step()
    assert torch.equal(tensors[0].grad, gradient)


@pytest.mark.parametrize("way", ["loop", "foreach", "fused"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_of_nan_makes_nan_of_its_coordinate(form, make, way, dtype):
    """A rule that lets a NaN vanish, as the sign of torch does, hides that a run has diverged; infinity is clipped."""
    if way == "fused" and (dtype == torch.float64 or "1.5" in form or form.startswith(("signum", "normalized"))):
        pytest.skip("no kernel; torch.compile has a slow test")
    tensor = nn.Parameter(torch.ones(70, dtype=dtype))
    optimizer = make([tensor], foreach=way == "foreach")
    if way == "fused":
        optimizer.param_groups[0].update(foreach=None, fused=True)
    for _ in range(2):
        tensor.grad = torch.ones(70, dtype=dtype)
        tensor.grad[3] = torch.nan
        tensor.grad[7] = torch.inf
        optimizer.step()
    assert tensor[3].isnan()
    plain = nn.Parameter(torch.ones(70, dtype=dtype))
    reference = make([plain])
    for _ in range(2):
        plain.grad = tensor.grad.clone()
        reference.step()
    assert torch.equal(tensor.isnan(), plain.isnan())


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_signum_keeps_nan_and_takes_the_sign_of_infinity(foreach, momentum):
    tensor = nn.Parameter(torch.zeros(4))
    tensor.grad = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0])
    Signum([tensor], lr=0.5, momentum=momentum, foreach=foreach).step()
    torch.testing.assert_close(tensor.detach(), torch.tensor([torch.nan, -0.5, 0.5, 0.0]), equal_nan=True)


def test_without_any_gradient_a_step_does_nothing(make):
    tensors = tensors_of(TYPES)
    optimizer = make(tensors, weight_decay=0.5)
    before = copy.deepcopy(tensors)
    optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(before, tensors, strict=True))
    assert not optimizer.state


def test_a_schedule_changes_the_learning_rate(make):
    scheduled, constant = tensors_of([torch.float64]), tensors_of([torch.float64])
    optimizer, reference = make(scheduled), make(constant)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    lr = reference.param_groups[0]["lr"]
    for number in range(5):
        steps(optimizer, [number])
        schedule.step()
        reference.param_groups[0]["lr"] = lr / (1 + number)
        steps(reference, [number])
    assert torch.equal(scheduled[0], constant[0])


def test_a_learning_rate_may_be_a_tensor(make):
    results = []
    for lr in (0.125, torch.tensor(0.125)):
        tensors = tensors_of(TYPES)
        steps(make(tensors, lr=lr, weight_decay=0.5), range(3))
        results.append(tensors)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_a_scaler_unscales_and_skips(make):
    """torch.amp.GradScaler divides the gradients before the step, and leaves the step out if they are not finite."""
    scaled, plain = tensors_of([torch.float32]), tensors_of([torch.float32])
    optimizer, reference = make(scaled), make(plain)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for number in range(4):
        weights = torch.randn(3, 2, generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        scaler.scale((scaled[0] * weights).sum()).backward()
        if number == 2:
            scaled[0].grad[0, 0] = torch.inf
        else:
            plain[0].grad = weights
            reference.step()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(scaled[0], plain[0])


def test_a_closure_runs_once_with_gradients_on(make):
    tensors = tensors_of([torch.float64])
    optimizer = make(tensors)
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = tensors[0].square().sum()
        loss.backward()
        return loss.item()

    expected = tensors[0].square().sum().item()
    assert optimizer.step(closure) == expected
    assert calls == [True]


def test_sparse_gradients_are_refused(make):
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="sparse gradients"):
        make(embedding.parameters()).step()


@pytest.mark.parametrize(
    ("rule", "wrong", "message"),
    [
        (ACClip, {"alpha": 3.0}, r"alpha must be in \[1, 2\], not 3.0"),
        (ACClip, {"betas": (0.9, 1.0)}, "betas must be two numbers"),
        (ACClip, {"eps": -1.0}, "eps must be at least 0"),
        (GClip, {"clip": 0.0}, "clip must be above 0"),
        (CClip, {"momentum": 1.0}, "momentum must be in"),
        (CClip, {"lr": -1.0}, "lr must be at least 0"),
        (CClip, {"weight_decay": -1.0}, "weight_decay must be at least 0"),
        (CClip, {"foreach": True, "fused": True}, "foreach and fused"),
    ],
)
def test_impossible_values_are_refused_for_a_rule_and_for_a_group(rule, wrong, message):
    right = {"lr": 0.1} | ({} if rule is ACClip else {"clip": 1.0})
    with pytest.raises(ValueError, match=message):
        rule(tensors_of([torch.float32]), **(right | wrong))
    with pytest.raises(ValueError, match=message):
        rule([{"params": tensors_of([torch.float32]), **wrong}], **right)


def test_complex_parameters_are_refused(make):
    with pytest.raises(ValueError, match="real floating-point"):
        make([nn.Parameter(torch.zeros(2, dtype=torch.complex64))])
