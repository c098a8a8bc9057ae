"""Measures of a block and of the whole, against dense matrices."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from whyadam.hessian import (
    HessianOperator,
    Spectrum,
    block_measures,
    block_spectra,
    dense_matrix,
    directional_sharpness,
    exact_spectrum,
    gradient_heterogeneity,
    one_one_norm,
    outside_blocks,
    slq,
)

EIGENVALUES = torch.tensor([-2.0, 0.0, 1.0, 1.0, 5.0], dtype=torch.float64)


def exactly(eigenvalues: torch.Tensor) -> Spectrum:
    return exact_spectrum(lambda vectors: vectors * eigenvalues, len(eigenvalues))


def test_measures_of_a_known_spectrum() -> None:
    found = block_measures(exactly(EIGENVALUES))
    assert (found.size, found.largest, found.smallest, found.trace, found.trace_error) == (5, 5, -2, 5, 0)
    assert found.frobenius == pytest.approx(math.sqrt(31))
    assert found.effective_rank == pytest.approx(9**2 / 31)
    assert found.condition == pytest.approx(5)


def test_estimated_measures_agree_within_their_error() -> None:
    eigenvalues = torch.linspace(-1, 3, 400, dtype=torch.float64)
    found = block_measures(slq(lambda v: eigenvalues * v, 400, steps=40, probes=20))
    expected = block_measures(exactly(eigenvalues))
    assert 0 < found.trace_error < 0.05 * expected.trace
    assert abs(found.trace - expected.trace) < 4 * found.trace_error
    for measure in ("frobenius", "effective_rank", "condition"):
        assert getattr(found, measure) == pytest.approx(getattr(expected, measure), rel=0.05)
    assert (found.largest, found.smallest) == pytest.approx((3, -1), abs=0.01)


@pytest.mark.parametrize("count", [1, 7])
def test_effective_rank_counts_equal_eigenvalues(count: int) -> None:
    assert block_measures(exactly(torch.full((count,), -3.0).double())).effective_rank == pytest.approx(count)


def test_zero_matrix_has_no_rank() -> None:
    found = block_measures(exactly(torch.zeros(4).double()))
    assert (found.trace, found.frobenius, found.effective_rank, found.condition) == (0, 0, 0, math.inf)


def test_single_probe_has_no_error_bar() -> None:
    assert math.isnan(block_measures(slq(lambda v: EIGENVALUES * v, 5, steps=3, probes=1)).trace_error)


def test_spectrum_of_unknown_size_has_no_trace() -> None:
    with pytest.raises(ValueError, match="size"):
        block_measures(Spectrum(torch.ones(1, 1), torch.ones(1, 1)))


def test_share_outside_the_blocks(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    full = block_spectra(case.model, loss, case.batches, "full")["full"]
    blocks = block_spectra(case.model, loss, case.batches)
    dense, inside, start = case.dense(), 0.0, 0
    for parameter in case.model.parameters():
        rows = slice(start, start := start + parameter.numel())
        inside += float(dense[rows, rows].square().sum())
    expected = 1 - inside / float(dense.square().sum())
    assert 0.01 < expected < 0.99
    assert outside_blocks(full, list(blocks.values())) == pytest.approx(expected)
    with pytest.raises(ValueError, match="do not have all parameters of the full Hessian"):
        outside_blocks(full, list(blocks.values())[1:])


def test_sharpness_along_a_direction(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    operator = HessianOperator(case.model, loss, case.batches)
    gradient = operator.gradient()
    expected = gradient @ case.dense() @ gradient / (gradient @ gradient)
    assert directional_sharpness(operator, 3 * gradient) == pytest.approx(float(expected))
    with pytest.raises(ValueError, match="the step along which it is measured is zero"):
        directional_sharpness(operator, torch.zeros(operator.size))


def test_gradient_heterogeneity_is_the_spread_of_logarithms() -> None:
    gradients = {"a": torch.full((4,), 1.0), "b": torch.full((100,), -(math.e**2)), "idle": torch.zeros(3)}
    assert gradient_heterogeneity(gradients) == pytest.approx(math.sqrt(2))
    assert gradient_heterogeneity({"a": torch.ones(5), "b": -torch.ones(2, 2)}) == 0
    with pytest.raises(ValueError, match="fewer than two blocks have a gradient"):
        gradient_heterogeneity({"a": torch.ones(5), "idle": torch.zeros(3)})


def test_one_one_norm_is_the_sum_of_absolute_entries(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    operator = HessianOperator(case.model, loss, case.batches, "3.*")
    expected = float(dense_matrix(operator.matmat, operator.size).abs().sum())
    assert one_one_norm(operator, probes=2000) == pytest.approx(expected, rel=0.05)
