"""fused=True in C++ and through torch.compile: equal to the plain loop, compiled once, and replaced where it fails."""

from __future__ import annotations

import copy
import subprocess
import warnings

import pytest
import torch
from torch import nn
from whyadam.optimizers import ACClip, CClip, GClip, execution, kernels

needs_compiler = pytest.mark.skipif(kernels.find_compiler() is None, reason="there is no C++ compiler")

SHAPES = [(260, 256), (7, 5), (), (1,), (0,)]
"""The first one is split into three chunks, which two threads share."""

OF_A_KERNEL = {
    "gclip": lambda params, **options: GClip(params, lr=0.1, clip=150.0, **options),
    "gclip with momentum": lambda params, **options: GClip(params, lr=0.02, clip=150.0, momentum=0.9, **options),
    "cclip": lambda params, **options: CClip(params, lr=0.1, clip=0.5, **options),
    "cclip with momentum": lambda params, **options: CClip(params, lr=0.02, clip=0.5, momentum=0.9, **options),
    "acclip": lambda params, **options: ACClip(params, lr=0.1, **options),
    "acclip with alpha 2": lambda params, **options: ACClip(params, lr=0.1, alpha=2, betas=(0.3, 0.4), **options),
    "acclip_rms": lambda params, **options: ACClip(params, lr=0.01, alpha=2, second_moment=True, **options),
    "acclip_rms, alpha 1": lambda params, **options: ACClip(params, lr=0.01, second_moment=True, **options),
}


@pytest.fixture(params=OF_A_KERNEL)
def make_fused(request):
    return OF_A_KERNEL[request.param]


@pytest.fixture
def calls(monkeypatch):
    """The names of the kernels that were called."""
    names = []
    call = kernels._call

    def noting(name, *arguments):
        names.append(name)
        return call(name, *arguments)

    monkeypatch.setattr(kernels, "_call", noting)
    return names


def run(make, steps=100, spoil=None, **options):
    """Groups with and without weight decay, a transposed parameter, gradients that are missing now and then."""
    generator = torch.Generator().manual_seed(0)
    tensors = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    tensors.append(nn.Parameter(torch.randn(6, 4, generator=generator).t()))
    optimizer = make([{"params": tensors[:2], "weight_decay": 0.3}, {"params": tensors[2:]}], **options)
    for step in range(steps):
        for number, tensor in enumerate(tensors):
            gradient = torch.randn(tensor.shape, generator=generator)
            tensor.grad = None if (step + number) % 7 == 0 else gradient
        if spoil is not None and step == 5:
            tensors[0].grad[0, :2] = spoil
            tensors[0].data[1, :2] = spoil
        optimizer.step()
    return tensors, optimizer


def assert_same(one, other, rtol):
    (tensors, optimizer), (twins, twin) = one, other
    for tensor, its_twin in zip(tensors, twins, strict=True):
        torch.testing.assert_close(tensor, its_twin, rtol=rtol, atol=rtol, equal_nan=True)
        assert optimizer.state[tensor].keys() == twin.state[its_twin].keys()
        for name, value in optimizer.state[tensor].items():
            torch.testing.assert_close(value, twin.state[its_twin][name], rtol=rtol, atol=rtol, equal_nan=True)


@needs_compiler
@pytest.mark.parametrize("maximize", [False, True])
def test_the_kernel_equals_the_plain_loop_over_100_steps(make_fused, maximize, calls):
    fused = run(make_fused, fused=True, maximize=maximize)
    assert len([name for name in calls if name != "sum_of_squares"]) == 200
    assert_same(fused, run(make_fused, maximize=maximize), rtol=2e-6)


@needs_compiler
@pytest.mark.parametrize("spoil", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_goes_the_way_of_the_plain_loop(make_fused, spoil):
    """Catches a minimum that swallows NaN, and 0 · infinity where there is no weight decay."""
    fused, plain = (run(make_fused, steps=12, spoil=spoil, fused=fused) for fused in (True, None))
    assert_same(fused, plain, rtol=2e-6)


@needs_compiler
def test_number_of_threads_changes_nothing(make_fused):
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(run(make_fused, steps=5, fused=True))
    finally:
        torch.set_num_threads(before)
    assert_same(*results, rtol=0)


@needs_compiler
def test_a_run_may_change_its_way_in_the_middle(make_fused):
    """The state is the same, whichever way it came about."""
    tensors, optimizer = run(make_fused, steps=20, fused=True)
    twins, twin = run(make_fused, steps=20)
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert twin.param_groups[0]["fused"] is True
    optimizer.param_groups[0]["fused"] = optimizer.param_groups[1]["fused"] = None
    for tensor, its_twin in zip(tensors, twins, strict=True):
        its_twin.data.copy_(tensor.data)
        tensor.grad = torch.ones_like(tensor)
        its_twin.grad = torch.ones_like(tensor)
    optimizer.step()
    twin.step()
    assert_same((tensors, optimizer), (twins, twin), rtol=1e-6)


@needs_compiler
@pytest.mark.parametrize("alpha", [1.5, 1.0])
def test_other_exponents_and_types_go_another_way(alpha, calls, monkeypatch):
    monkeypatch.setattr("whyadam.optimizers.execution._can_compile", lambda *_: False)
    dtype = torch.float32 if alpha == 1.5 else torch.float64
    weight = nn.Parameter(torch.ones(3, dtype=dtype))
    weight.grad = torch.ones_like(weight)
    ACClip([weight], alpha=alpha, fused=True).step()
    assert not calls
    assert (weight < 1).all()


@needs_compiler
def test_a_rule_with_another_formula_does_not_inherit_the_kernel(calls, monkeypatch):
    class Still(ACClip):
        @classmethod
        def direction(cls, gradient, state, constants):
            return torch.zeros_like(gradient)

    monkeypatch.setattr("whyadam.optimizers.execution._can_compile", lambda *_: False)
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    Still([weight], fused=True).step()
    assert not calls
    assert weight.tolist() == [1.0] * 3


@needs_compiler
def test_autograd_sees_an_update_by_a_kernel():
    weight = nn.Parameter(torch.ones(3))
    product = (weight * weight).sum()
    weight.grad = torch.ones(3)
    ACClip([weight], fused=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


@needs_compiler
@pytest.mark.parametrize("sizes", [[0], [1], [3], [32768 + 5, 2, 100_001]])
def test_the_norm_is_that_of_torch_and_more_exact(sizes):
    tensors = [torch.randn(size, generator=torch.Generator().manual_seed(size)) for size in sizes]
    exact = torch.cat(tensors).double().norm()
    torch.testing.assert_close(kernels.norm(tensors).double(), exact, rtol=2e-7, atol=0)


@needs_compiler
def test_what_is_compiled_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("WHYADAM_CACHE", str(tmp_path))
    compiler = kernels.find_compiler()
    kernels._load(compiler)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert kernels._load(compiler).gclip
    (folder,) = tmp_path.iterdir()
    assert sorted(path.suffix for path in folder.iterdir()) == [".digest", ".lock", ".so"]


@pytest.mark.parametrize("is_there", [True, False])
def test_without_the_kernels_torch_compile_is_tried(is_there, monkeypatch, tmp_path):
    """One line says why, unless there is no compiler at all: then torch.compile is the one to say so."""
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'a.cpp:1: error: what' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("WHYADAM_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", str(broken) if is_there else "")
    monkeypatch.setattr(kernels, "_COMPILERS", ())
    monkeypatch.setattr("whyadam.optimizers.execution._can_compile", lambda *_: False)
    kernels.load_kernels.cache_clear()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fallen_back = [run(ACClip, steps=2, fused=True) for _ in range(2)]
    finally:
        kernels.load_kernels.cache_clear()
    lines = [str(warning.message) for warning in caught if "fused" in str(warning.message)]
    assert lines == ["fused=True: no C++ kernels, torch.compile is tried instead: a.cpp:1: error: what"] * is_there
    assert_same(fallen_back[0], run(ACClip, steps=2), rtol=0)


def test_the_plain_loop_in_chunks_is_the_plain_loop(make, monkeypatch):
    """A large parameter is updated chunk by chunk, to the same bits."""
    whole = run(make, steps=3)
    monkeypatch.setattr(execution, "CHUNK", 2**12)
    assert_same(run(make, steps=3), whole, rtol=0)


SMALL_SHAPES = [(40, 30), (1000,), (1,), (3, 4, 5), ()]


@pytest.fixture
def _no_kernels(monkeypatch):
    monkeypatch.setattr(kernels, "load_kernels", lambda: None)


def run_scheduled(make, types, steps=5, **options) -> list[nn.Parameter]:
    torch.manual_seed(0)
    tensors = [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in SMALL_SHAPES for dtype in types]
    tensors.append(nn.Parameter(torch.randn(6, 4, dtype=types[0]).t()))
    optimizer = make([{"params": tensors[:3]}, {"params": tensors[3:], "weight_decay": 0.3}], **options)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    for _ in range(steps):
        for tensor in tensors:
            tensor.grad = torch.randn(tensor.shape, dtype=tensor.dtype)
        optimizer.step()
        schedule.step()
    return tensors


@pytest.mark.usefixtures("_no_kernels")
@pytest.mark.slow
def test_compiled_equals_plain(make):
    torch.compiler.reset()
    compiled, plain = (run_scheduled(make, [torch.float32], fused=fused) for fused in (True, None))
    for one, other in zip(compiled, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("_no_kernels")
@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.bfloat16, 1e-2)])
def test_compiled_equals_plain_uphill_in_other_types(dtype, tolerance):
    torch.compiler.reset()
    compiled, plain = (run_scheduled(ACClip, [dtype], fused=fused, maximize=True) for fused in (True, None))
    for one, other in zip(compiled, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("_no_kernels")
@pytest.mark.slow
def test_compiled_keeps_nan(make):
    """A compiler that takes 0 · x for 0 would hide it."""
    torch.compiler.reset()
    tensor = nn.Parameter(torch.ones(40))
    optimizer = make([tensor], fused=True)
    tensor.grad = torch.ones(40)
    tensor.grad[3] = torch.nan
    optimizer.step()
    assert tensor[3].isnan()


@pytest.mark.usefixtures("_no_kernels")
@pytest.mark.slow
def test_a_schedule_does_not_compile_anew():
    """Catches a learning rate compiled in as a constant: steps would take seconds each."""
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    run_scheduled(ACClip, [torch.float32], fused=True)
    after_five_steps = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    run_scheduled(ACClip, [torch.float32], fused=True, steps=20)
    assert 0 < torch._dynamo.utils.counters["stats"]["unique_graphs"] == after_five_steps


@pytest.mark.usefixtures("_no_kernels")
def test_autograd_sees_a_compiled_update(monkeypatch):
    """The compiled update bypasses autograd, which must still refuse a backward pass through old values."""
    monkeypatch.setattr(execution, "_compiled", lambda: execution.update_parameter)
    weight = nn.Parameter(torch.ones(3))
    product = (weight * weight).sum()
    weight.grad = torch.ones(3)
    ACClip([weight], fused=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


@pytest.mark.usefixtures("_no_kernels")
def test_where_compiling_fails_the_plain_loop_steps_in_with_one_warning(monkeypatch, make):
    def fails(*args, **kwargs):
        raise RuntimeError("no working C++ compiler\nwith a long tail of details")

    monkeypatch.setattr(execution, "_compiled", lambda: fails)
    monkeypatch.setattr(execution, "_compiles", {})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fallen_back = run_scheduled(make, [torch.float32, torch.float64], fused=True)
    (warning,) = [str(entry.message) for entry in caught if "fused" in str(entry.message)]
    assert "\n" not in warning
    assert "the plain loop is used instead: no working C++ compiler" in warning
    for one, other in zip(fallen_back, run_scheduled(make, [torch.float32, torch.float64]), strict=True):
        assert torch.equal(one, other)
