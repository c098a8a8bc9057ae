"""Measures of a block, of pairs of blocks and of the whole, against dense matrices."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from whyadam.errors import UserError
from whyadam.hessian import (
    PUBLISHED,
    RELATIVE,
    DistanceRow,
    Effort,
    HessianOperator,
    Preconditioned,
    Spectrum,
    adam_direction,
    adam_scale,
    block_measures,
    block_spectra,
    dense_matrix,
    directional_sharpness,
    distance_matrix,
    distance_rows,
    exact_spectrum,
    first_scale,
    gradient_heterogeneity,
    heterogeneity,
    js_distance,
    mean_gradient,
    measure_blocks,
    one_one_norm,
    outside_blocks,
    partition,
    slq,
    wasserstein1,
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
    with pytest.raises(ValueError, match="as many parameters"):
        outside_blocks(full, list(blocks.values())[1:])


def test_sharpness_along_a_direction(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    operator = HessianOperator(case.model, loss, case.batches)
    gradient = operator.gradient()
    expected = gradient @ case.dense() @ gradient / (gradient @ gradient)
    assert directional_sharpness(operator, 3 * gradient) == pytest.approx(float(expected))
    with pytest.raises(ValueError, match="must not be zero"):
        directional_sharpness(operator, torch.zeros(operator.size))


def test_gradient_heterogeneity_is_the_spread_of_logarithms() -> None:
    gradients = {"a": torch.full((4,), 1.0), "b": torch.full((100,), -(math.e**2)), "idle": torch.zeros(3)}
    assert gradient_heterogeneity(gradients) == pytest.approx(math.sqrt(2))
    assert gradient_heterogeneity({"a": torch.ones(5), "b": -torch.ones(2, 2)}) == 0
    with pytest.raises(ValueError, match="at least two"):
        gradient_heterogeneity({"a": torch.ones(5), "idle": torch.zeros(3)})


def test_one_one_norm_is_the_sum_of_absolute_entries(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    operator = HessianOperator(case.model, loss, case.batches, "3.*")
    expected = float(dense_matrix(operator.matmat, operator.size).abs().sum())
    assert one_one_norm(operator, probes=2000) == pytest.approx(expected, rel=0.05)


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


def spectra_of_three() -> dict[str, Spectrum]:
    bulk = torch.linspace(0, 1, 300, dtype=torch.float64)
    matrices = {"narrow": 0.1 * bulk, "wide": bulk, "shifted": bulk + 3}
    return {name: slq(lambda v, d=diagonal: d * v, 300, steps=30, probes=6) for name, diagonal in matrices.items()}


def js_row(rows: list[DistanceRow], block_a: str, block_b: str) -> DistanceRow:
    wanted = (block_a, block_b, "js_distance", "1%")
    (row,) = (row for row in rows if (row.block_a, row.block_b, row.measure, row.sigma) == wanted)
    return row


def test_rows_hold_every_pair_once_with_its_noise_floor() -> None:
    spectra = spectra_of_three()
    rows = list(distance_rows(spectra))
    keys = {(row.measure, row.sigma) for row in rows}
    information = {"js_distance", "js_divergence", "sym_kl"}
    assert keys == (
        {(measure, str(sigma)) for measure in information for sigma in (PUBLISHED, RELATIVE)}
        | {(f"scale_free_{measure}", "1%") for measure in information}
        | {("wasserstein1", ""), ("scale_free_wasserstein1", "")}
    )
    assert len(rows) == 3 * len(keys)
    (row,) = (
        row
        for row in rows
        if (row.block_a, row.block_b, row.measure, row.sigma) == ("narrow", "wide", "js_distance", "1%")
    )
    width = RELATIVE.width(spectra["narrow"], spectra["wide"])
    assert row.value == pytest.approx(js_distance(spectra["narrow"], spectra["wide"], sigma=width))
    floors = [js_distance(*(spectra[name].halves() or ()), sigma=width) for name in ("narrow", "wide")]
    assert row.noise_floor == pytest.approx(max(floors))
    assert row.value > 3 * row.noise_floor


def test_scale_free_rows_see_no_difference_of_scale() -> None:
    """A tenth of the spectrum is far from it raw, and as near as noise allows once the scale is gone."""
    rows = {
        (row.measure, row.sigma): row
        for row in distance_rows(spectra_of_three())
        if (row.block_a, row.block_b) == ("narrow", "wide")
    }
    assert rows["js_distance", "1%"].value > 0.5
    assert rows["scale_free_js_distance", "1%"].value < rows["scale_free_js_distance", "1%"].noise_floor
    assert rows["wasserstein1", ""].value == pytest.approx(0.45, rel=0.1)


def test_noise_floor_is_zero_if_exact_and_unknown_of_a_single_probe() -> None:
    exact, single = exactly(EIGENVALUES), slq(lambda v: EIGENVALUES * v, 5, steps=5, probes=1)
    rows = list(distance_rows({"a": exact, "b": exactly(2 * EIGENVALUES)}))
    assert {row.noise_floor for row in rows} == {0.0}
    assert all(math.isnan(row.noise_floor) for row in distance_rows({"a": exact, "b": single}))
    assert all(math.isnan(row.noise_floor) for row in distance_rows({"a": single, "b": exact}))


def test_block_that_is_zero_has_no_scale_free_distance() -> None:
    rows = list(distance_rows({"a": exactly(EIGENVALUES), "zero": exactly(torch.zeros(3).double())}))
    assert rows
    assert not [row for row in rows if row.measure.startswith("scale_free")]


def test_heterogeneity_is_the_mean_over_pairs() -> None:
    """A mean over the whole matrix would count the diagonal's zeros."""
    spectra = spectra_of_three()
    rows = list(distance_rows(spectra))
    found = heterogeneity(rows)["wasserstein1", ""]
    pairs = [("narrow", "wide"), ("narrow", "shifted"), ("wide", "shifted")]
    assert found.value == pytest.approx(sum(wasserstein1(spectra[a], spectra[b]) for a, b in pairs) / 3)
    assert found.noise_floor == pytest.approx(sum(row.noise_floor for row in rows if row.measure == "wasserstein1") / 3)


def test_matrix_is_symmetric_in_the_order_asked_for() -> None:
    rows = list(distance_rows(spectra_of_three()))
    names = ["shifted", "narrow", "wide"]
    values, floors = distance_matrix(rows, names, "js_distance", "1%")
    assert torch.equal(values, values.T)
    assert values.diagonal().tolist() == [0, 0, 0]
    (row,) = (
        r for r in rows if (r.block_a, r.block_b, r.measure, r.sigma) == ("narrow", "shifted", "js_distance", "1%")
    )
    assert (float(values[0, 1]), float(floors[1, 0])) == (row.value, row.noise_floor)
    assert distance_matrix(rows, [*names, "other"], "js_distance", "1%")[0].isnan().sum() == 6
