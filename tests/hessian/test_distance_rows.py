"""Distances of all pairs of blocks: rows with their noise floors, the mean over pairs, the matrix of a picture."""

from __future__ import annotations

import math

import pytest
import torch
from whyadam.hessian import (
    PUBLISHED,
    RELATIVE,
    DistanceRow,
    Spectrum,
    distance_matrix,
    distance_rows,
    exact_spectrum,
    heterogeneity,
    js_distance,
    slq,
    wasserstein1,
)

EIGENVALUES = torch.tensor([-2.0, 0.0, 1.0, 1.0, 5.0], dtype=torch.float64)


def exactly(eigenvalues: torch.Tensor) -> Spectrum:
    return exact_spectrum(lambda vectors: vectors * eigenvalues, len(eigenvalues))


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
