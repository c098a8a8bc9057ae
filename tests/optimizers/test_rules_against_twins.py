"""Each rule against a literal twin: plain arithmetic on one coordinate after the other, straight from the formula.

It cannot catch a formula that is wrong in both; the closed forms of test_rules_closed_forms.py are for that.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

STEPS = 100
SHAPES = [(2, 2), (3,), (), (2, 1)]
NUMBER = {torch.float64: np.float64, torch.float32: np.float32}


def gclip(coordinates):
    norm = math.sqrt(sum(float(c.g) ** 2 for c in coordinates))
    for c in coordinates:
        c.v = c.momentum * c.v + min(c.clip / norm, 1.0) * c.g
        c.direction = c.v


def cclip(coordinates):
    for c in coordinates:
        c.v = c.momentum * c.v + min(c.clip / abs(c.g), 1.0) * c.g
        c.direction = c.v


def acclip(coordinates):
    for c in coordinates:
        beta1, beta2 = c.betas
        c.m = beta1 * c.m + (1 - beta1) * c.g
        c.power = beta2 * c.power + (1 - beta2) * abs(c.g) ** c.alpha
        tau = c.power ** (1 / c.alpha)
        c.direction = min(tau / (abs(c.m) + c.eps), 1.0) * c.m
        if c.second_moment:
            c.v = beta2 * c.v + (1 - beta2) * c.g**2
            c.direction = c.direction / (np.sqrt(beta2 * c.v) + c.eps)


def signum(coordinates):
    for c in coordinates:
        c.m = c.momentum * c.m + (1 - c.momentum) * c.g
        c.direction = 1.0 if c.m > 0 else -1.0


def normalized_sgd(coordinates):
    for c in coordinates:
        c.m = c.momentum * c.m + (1 - c.momentum) * c.g
    norm = math.sqrt(sum(float(c.m) ** 2 for c in coordinates))
    for c in coordinates:
        c.direction = c.m / norm


TWINS = {"gclip": gclip, "cclip": cclip, "acclip": acclip, "acclip_rms": acclip, "signum": signum}
TWINS["normalized_sgd"] = normalized_sgd


class Twin:
    """A rule over all coordinates of an optimizer's parameters, with none of its code."""

    def __init__(self, form, optimizer):
        self.rule = TWINS[form.split()[0]]
        self.tensors = [
            [self.coordinate(number, tensor.dtype, group) for number in tensor.detach().flatten().tolist()]
            for group in optimizer.param_groups
            for tensor in group["params"]
        ]

    @staticmethod
    def coordinate(number, dtype, group):
        kind = NUMBER[dtype]
        hyperparameters = {name: value for name, value in group.items() if name != "params"}
        return SimpleNamespace(x=kind(number), kind=kind, m=kind(0), v=kind(0), power=kind(0), **hyperparameters)

    def step(self, gradients):
        """One step; a gradient is a flat list of numbers, or None."""
        moving = []
        for tensor, gradient in zip(self.tensors, gradients, strict=True):
            for c, g in zip(tensor, gradient or [], strict=gradient is not None):
                c.g = c.kind(-g if c.maximize else g)
                moving.append(c)
        self.rule(moving)
        for c in moving:
            c.x = c.kind(c.x - c.lr * c.weight_decay * c.x - c.lr * c.direction)


def parameters(dtypes):
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    return [torch.nn.Parameter(value.to(dtype)) for value, dtype in zip(values, dtypes, strict=True)]


def heavy_tailed(tensors, step, seed=1):
    """Gradients in which every kind of clipping is sometimes active and sometimes not."""
    generator = torch.Generator().manual_seed(1000 * seed + step)
    gradients = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in tensors]
    return [(g * torch.exp(torch.randn(g.shape, generator=generator, dtype=torch.float64))).float() for g in gradients]


def compare(form, make, groups, foreach, gradients_at=heavy_tailed, exact=1e-12, **options):
    """Run optimizer and twin side by side."""
    optimizer = make(groups, foreach=foreach, **options)
    tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    twin = Twin(form, optimizer)
    for step in range(STEPS):
        gradients = gradients_at(tensors, step)
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.grad = None if gradient is None else gradient.to(tensor.dtype)
        optimizer.step()
        twin.step([None if gradient is None else gradient.flatten().tolist() for gradient in gradients])
    assert_equal(twin, tensors, exact)


def assert_equal(twin, tensors, exact=1e-12):
    for coordinates, tensor in zip(twin.tensors, tensors, strict=True):
        expected = torch.tensor([float(c.x) for c in coordinates], dtype=tensor.dtype).reshape(tensor.shape)
        tolerance = exact if tensor.dtype == torch.float64 else 1e-6
        torch.testing.assert_close(tensor.detach(), expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(params=[False, True], ids=["loop", "foreach"])
def foreach(request):
    return request.param


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request):
    return request.param


def test_one_group_with_weight_decay(form, make, foreach, dtype):
    compare(form, make, parameters([dtype] * 4), foreach, weight_decay=0.3)


def test_groups_with_their_own_hyperparameters(form, make, foreach, dtype):
    first, second, third, fourth = parameters([dtype] * 4)
    faster = {"params": [third, fourth], "lr": 0.03, "weight_decay": 0.5, "momentum": 0.5, "clip": 0.1}
    if "momentum" not in make([first]).param_groups[0]:
        faster |= {"alpha": 1.25, "betas": (0.5, 0.9)}
    compare(form, make, [{"params": [first, second]}, faster], foreach)


def test_mixed_types_in_one_group(form, make, foreach):
    """Catches weights decayed once per type, and state or arithmetic in the wrong type."""
    types = [torch.float64, torch.float32, torch.float32, torch.float64]
    has_global_norm = form.startswith(("gclip", "normalized_sgd"))  # one type's rounding then reaches the other
    compare(form, make, parameters(types), foreach, weight_decay=0.3, exact=1e-6 if has_global_norm else 1e-12)


def test_missing_gradients(form, make, foreach, dtype):
    """Catches states that move, or norms that count, where there is no gradient."""

    def sometimes(tensors, step):
        gradients = heavy_tailed(tensors, step)
        return [None, gradients[1] if step % 3 else None, gradients[2], gradients[3] if step % 2 else None]

    compare(form, make, parameters([dtype] * 4), foreach, sometimes, weight_decay=0.3)


def test_maximize(form, make, foreach, dtype):
    compare(form, make, parameters([dtype] * 4), foreach, maximize=True)


def test_closure(form, make, foreach, dtype):
    """The gradient is that of the closure, taken with gradients on, at the parameters before the step."""
    tensors = parameters([dtype] * 4)
    optimizer = make(tensors, foreach=foreach)
    twin = Twin(form, optimizer)

    def closure():
        optimizer.zero_grad()
        loss = sum((1.5 * tensor**2 + tensor).sum() for tensor in tensors)
        loss.backward()
        return loss

    for _ in range(STEPS if "signum" not in form else 5):  # near the minimum a sign hangs on rounding
        expected = closure().item()
        assert optimizer.step(closure).item() == expected
        twin.step([[3 * c.x + 1 for c in coordinates] for coordinates in twin.tensors])
    assert_equal(twin, tensors)


def test_loop_and_foreach_give_the_same_bits(make):
    """Also for half precision, which the twins leave out, and for memory that is not contiguous."""
    results = []
    for foreach in (False, True):
        tensors = parameters([torch.bfloat16, torch.float32, torch.float16, torch.float64])
        tensors.append(torch.nn.Parameter(torch.arange(6.0).reshape(2, 3).t()))
        optimizer = make(tensors, foreach=foreach, weight_decay=0.3)
        for step in range(20):
            for tensor, gradient in zip(tensors, heavy_tailed(tensors, step), strict=True):
                tensor.grad = gradient.to(tensor.dtype)
            optimizer.step()
        results.append(tensors)
    for looped, together in zip(*results, strict=True):
        assert torch.equal(looped, together)
