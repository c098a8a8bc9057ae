"""Adam's preconditioner: what it is, and blocks of the Hessian as it makes them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from whyadam.errors import UserError
from whyadam.hessian import (
    Effort,
    HessianOperator,
    Preconditioned,
    adam_direction,
    adam_scale,
    dense_matrix,
    first_scale,
    mean_gradient,
    measure_blocks,
    partition,
)


def test_preconditioned_block_is_scaled_on_both_sides(case_named: Any, loss: Any) -> None:
    """Scaled on one side only it would have the same eigenvalues, but not be symmetric."""
    case = case_named("gpt2")
    scale = first_scale(mean_gradient(case.model, loss, case.batches), eps=1e-2)
    (block,) = (block for block in partition(case.model) if block.name.endswith("h.1.attn.c_attn.weight.value"))
    operator = HessianOperator(case.model, loss, case.batches, block)
    root = block.of(scale).rsqrt()
    expected = root[:, None] * dense_matrix(operator.matmat, operator.size) * root
    matrix = Preconditioned(operator, block.of(scale))
    found = matrix.matmat(torch.eye(operator.size, dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    measured = dict(measure_blocks(case.model, loss, case.batches, [block], Effort(), scale=scale))[block.name]
    torch.testing.assert_close(measured.nodes[0], torch.linalg.eigvalsh(expected), rtol=0, atol=1e-8)


def test_preconditioner_must_be_positive(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    operator = HessianOperator(case.model, loss, case.batches, "3.bias")
    with pytest.raises(UserError, match="must be positive"):
        Preconditioned(operator, torch.zeros(3))


@pytest.mark.parametrize("steps", [1, 4])
def test_adam_direction_is_the_step_adam_takes(case_named: Any, loss: Any, steps: int) -> None:
    """Without bias correction, or with eps inside the root, the weights would have moved otherwise."""
    case = case_named("mlp")
    optimizer = torch.optim.Adam(case.model.parameters(), lr=0.01, betas=(0.7, 0.9), eps=1e-3)
    for _ in range(steps):
        before = {name: parameter.detach().clone() for name, parameter in case.model.named_parameters()}
        optimizer.zero_grad()
        loss(case.model, case.batches[0])[0].backward()
        optimizer.step()
    direction = adam_direction(case.model, optimizer)
    for name, parameter in case.model.named_parameters():
        torch.testing.assert_close(before[name] - 0.01 * direction[name], parameter.detach())
    scale = adam_scale(case.model, optimizer)
    assert all((scale[name] > 1e-3).all() for name in before)


def test_first_scale_is_that_of_adam_after_its_first_step(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    optimizer = torch.optim.Adam(case.model.parameters(), lr=0.0)
    gradient = mean_gradient(case.model, loss, case.batches)
    for name, parameter in case.model.named_parameters():
        parameter.grad = gradient[name]
    optimizer.step()
    for name, scale in adam_scale(case.model, optimizer).items():
        torch.testing.assert_close(scale, first_scale(gradient)[name])


def test_optimizer_without_moments_is_refused(case_named: Any) -> None:
    model = case_named("mlp").model
    with pytest.raises(UserError, match="SGD has no Adam moments for"):
        adam_scale(model, torch.optim.SGD(model.parameters(), lr=0.1))
