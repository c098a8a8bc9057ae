"""fused=True through torch.compile: equals the plain loop, and a machine that cannot compile is told so once."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from whyadam.optimizers import ACClip, kernels
from whyadam.optimizers import execution as fused

SHAPES = [(40, 30), (1000,), (1,), (3, 4, 5), ()]


@pytest.fixture(autouse=True)
def _no_kernels(monkeypatch):
    monkeypatch.setattr(kernels, "load_kernels", lambda: None)


def run(make, types, steps=5, **options) -> list[nn.Parameter]:
    torch.manual_seed(0)
    tensors = [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in SHAPES for dtype in types]
    tensors.append(nn.Parameter(torch.randn(6, 4, dtype=types[0]).t()))
    optimizer = make([{"params": tensors[:3]}, {"params": tensors[3:], "weight_decay": 0.3}], **options)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    for _ in range(steps):
        for tensor in tensors:
            tensor.grad = torch.randn(tensor.shape, dtype=tensor.dtype)
        optimizer.step()
        schedule.step()
    return tensors


@pytest.mark.slow
def test_compiled_equals_plain(make):
    torch.compiler.reset()
    compiled, plain = (run(make, [torch.float32], fused=fused) for fused in (True, None))
    for one, other in zip(compiled, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.bfloat16, 1e-2)])
def test_compiled_equals_plain_uphill_in_other_types(dtype, tolerance):
    torch.compiler.reset()
    compiled, plain = (run(ACClip, [dtype], fused=fused, maximize=True) for fused in (True, None))
    for one, other in zip(compiled, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_a_schedule_does_not_compile_anew():
    """Catches a learning rate compiled in as a constant: steps would take seconds each."""
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    run(ACClip, [torch.float32], fused=True)
    after_five_steps = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    run(ACClip, [torch.float32], fused=True, steps=20)
    assert 0 < torch._dynamo.utils.counters["stats"]["unique_graphs"] == after_five_steps


def test_autograd_still_sees_that_a_parameter_changed(monkeypatch):
    """The compiled update writes past autograd, which must all the same refuse a backward pass through old values."""
    monkeypatch.setattr(fused, "_compiled", lambda: fused.update_parameter)
    weight = nn.Parameter(torch.ones(3))
    product = (weight * weight).sum()
    weight.grad = torch.ones(3)
    ACClip([weight], fused=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_where_compiling_fails_the_plain_loop_steps_in_with_one_warning(monkeypatch, make):
    def fails(*args, **kwargs):
        raise RuntimeError("no working C++ compiler\nwith a long tail of details")

    monkeypatch.setattr(fused, "_compiled", lambda: fails)
    monkeypatch.setattr(fused, "_compiles", {})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fallen_back = run(make, [torch.float32, torch.float64], fused=True)
    (warning,) = [str(entry.message) for entry in caught if "fused" in str(entry.message)]
    assert "\n" not in warning
    assert "the plain loop is used instead: no working C++ compiler" in warning
    for one, other in zip(fallen_back, run(make, [torch.float32, torch.float64]), strict=True):
        assert torch.equal(one, other)
