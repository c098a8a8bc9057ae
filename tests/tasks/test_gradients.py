"""The gradient of the mean loss against a closed form: a quadratic, batches of unequal size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from whyadam.tasks.gradients import mean_gradient, trained_parameters

BATCHES = [torch.tensor([1.0, 2.0, 6.0]), torch.tensor([11.0])]
"""Mean 5 over all terms; 7 if the two batches counted alike."""


def squares(model: nn.ParameterDict, batch: Tensor) -> tuple[Tensor, int]:
    return 0.5 * (model["w"] - batch).square().sum(), len(batch)


def network() -> nn.ParameterDict:
    model = nn.ParameterDict({"w": torch.tensor([2.0]), "unused": torch.ones(2), "frozen": torch.ones(2)})
    model["frozen"].requires_grad_(False)
    return model


@pytest.mark.parametrize("options", [{}, {"terms": 4}, {"dtype": torch.float64}, {"terms": 4, "dtype": torch.float64}])
def test_it_is_the_gradient_of_the_mean_over_all_terms(options: dict[str, Any]) -> None:
    """Batches that count alike whatever their size, or a division by the number of terms left out or done twice."""
    model = network()
    found = mean_gradient(model, squares, iter(BATCHES), **options)
    assert list(found) == ["unused", "w"] == list(trained_parameters(model))
    assert float(found["w"]) == pytest.approx(2.0 - 5.0)
    assert not found["unused"].any()
    assert {value.dtype for value in found.values()} == {options.get("dtype", torch.float32)}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_large_sum_stays_in_range_where_the_terms_are_known() -> None:
    """The sum of 1,000 gradients of 100 is infinite in float16; their mean is 100."""
    model = nn.ParameterDict({"w": torch.zeros(1, dtype=torch.float16)})

    def steep(model: nn.Module, count: int) -> tuple[Tensor, int]:
        return count * (100 * next(model.parameters()).float()).sum(), count

    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        mean_gradient(model, steep, [1000])
    assert float(mean_gradient(model, steep, [1000], terms=1000)["w"]) == 100


@pytest.mark.parametrize("batches", [[], [torch.zeros(0)]])
def test_no_loss_term_is_refused(batches: list[Tensor]) -> None:
    with pytest.raises(ValueError, match="no loss term"):
        mean_gradient(network(), squares, batches)
