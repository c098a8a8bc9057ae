"""What has no Hessian, or none that can be computed, is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from whyadam.errors import UserError
from whyadam.hessian import HessianOperator


def test_random_loss_is_refused(case_named: Any, loss: Any) -> None:
    """Dropout that evaluation mode does not switch off would make every product a different one."""
    case = case_named("mlp")

    def noisy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        images, labels = batch
        return loss(model, (nn.functional.dropout(images, 0.5, training=True), labels))

    with pytest.raises(UserError, match="random numbers"):
        HessianOperator(case.model, noisy, case.batches)


def test_infinite_loss_is_refused(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    with torch.no_grad():
        case.model[1].weight[0, 0] = torch.nan
    with pytest.raises(UserError, match="loss of a batch is nan"):
        HessianOperator(case.model, loss, case.batches)


@pytest.mark.parametrize("batches", [[], [(torch.zeros(0, 3, 8, 8).double(), torch.zeros(0).long())]])
def test_no_loss_term_is_refused(case_named: Any, loss: Any, batches: list[Any]) -> None:
    with pytest.raises(UserError, match="no loss term"):
        HessianOperator(case_named("mlp").model, loss, batches)


def test_unknown_name_is_refused_with_the_nearest(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    with pytest.raises(UserError, match=r"'1.weigth' fits no parameter; did you mean 1.weight\?"):
        HessianOperator(case.model, loss, case.batches, "1.weigth")


class OnceOnly(torch.autograd.Function):
    """Doubles, and has a first derivative only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


def test_operation_to_be_differentiated_once_is_refused(case_named: Any, loss: Any) -> None:
    """Torch leaves its contribution out without a word when the gradient of chosen parameters is asked for."""
    case = case_named("mlp")

    def doubled(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        images, labels = batch
        return loss(lambda images: OnceOnly.apply(model(images)), (images, labels))

    with pytest.raises(UserError, match="only once"):
        HessianOperator(case.model, doubled, case.batches)


@pytest.mark.parametrize("at_once", [1, 10])
def test_operation_without_second_derivative_is_refused(at_once: int) -> None:
    """Fused attention that a model insists on."""
    model = nn.Linear(4, 4)

    def attend(model: nn.Module, tokens: Tensor) -> tuple[Tensor, int]:
        x = model(tokens)
        output = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(x, x, x)[0]
        return output.square().sum(), len(tokens)

    operator = HessianOperator(model, attend, [torch.randn(2, 1, 3, 4)], at_once=at_once)
    with pytest.raises(UserError, match=r'no second derivative.*attn_implementation="eager"'):
        operator.matmat(torch.ones(2, operator.size))
