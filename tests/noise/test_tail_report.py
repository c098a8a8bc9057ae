"""The report of the tail: its rows, and what must not change them."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, fields

import numpy as np
import pytest
import torch
from scipy import stats
from whyadam.noise import TailRow, tail_report

BATCHES, WIDTH = 64, 200
COORDINATES = "across_iterations/dense_coordinate"
ACROSS = "across_coordinates/dense_coordinate"
NORM = "across_iterations/norm"
FAMILIES = ("norms", "projections", "coordinates", "across_coordinates")


def by_name(noise: np.ndarray, seed: int = 0) -> dict[str, TailRow]:
    return {row.statistic: row for row in tail_report(noise, seed=seed)}


def gaussian(seed: int = 0, batches: int = BATCHES, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batches, width))


def test_rows_have_the_columns_of_the_noise_file_and_are_named_once() -> None:
    rows = tail_report(gaussian())
    columns = ["statistic", "value", "ci_low", "ci_high", "control_low", "control_high", "verdict"]
    assert [field.name for field in fields(TailRow)] == columns
    assert len({row.statistic for row in rows}) == len(rows)
    families = [row.statistic for row in rows if row.statistic in FAMILIES]
    assert families == list(FAMILIES)
    assert rows[0].statistic == "norms"
    csv.DictWriter(io.StringIO(), columns).writerows(asdict(row) for row in rows)


def test_every_tail_statistic_stands_beside_its_control() -> None:
    """Each row but those of families has an interval and a control in ascending order; each axis is in its name."""
    for row in tail_report(gaussian()):
        if row.statistic.split("/")[0] in FAMILIES and row.statistic.count("/") < 2:
            continue
        assert row.statistic.startswith(("across_iterations/", "across_coordinates/"))
        if not row.statistic.endswith("sparse_fraction"):
            assert None not in (row.ci_low, row.ci_high, row.control_low, row.control_high)
            assert row.ci_low <= row.value <= row.ci_high
            assert row.control_low <= row.control_high


def test_the_statistics_of_the_literature_are_there() -> None:
    names = set(by_name(gaussian()))
    for family in (COORDINATES, ACROSS, "across_iterations/projection"):
        assert {f"{family}/{name}" for name in ("mcculloch", "ecf", "block", "hill_0.05", "moment_0.05")} <= names
    for family in ("across_iterations/coordinate", ACROSS, "across_iterations/projection"):
        assert {f"{family}/{name}" for name in ("kurtosis", "max_share")} <= names
    extremes = {f"{NORM}/{name}" for name in ("hill_0.05", "hill_0.1", "hill_0.2", "moment_0.2", "pickands_0.1")}
    assert extremes | {f"{NORM}/quantile_0.5", f"{NORM}/max_share", f"{NORM}/dispersion"} <= names
    assert f"{NORM}/sd_over_mean" in names


def test_every_family_has_an_effect_beside_its_p_value() -> None:
    rows = by_name(np.random.default_rng(20).standard_t(3, (BATCHES, WIDTH)))
    for family in FAMILIES:
        assert 0 < rows[family].value <= 1
        index, variance = rows[f"{family}/tail_index"], rows[f"{family}/variance"]
        assert index.ci_low < index.value < index.ci_high
        assert variance.ci_low < variance.value < variance.ci_high
        assert variance.verdict in ("finite_variance", "infinite_variance", "undecided")


def test_norm_rows_are_those_of_the_norms() -> None:
    """The norms are found in a basis of the noise's span: would catch a basis that is not orthonormal."""
    noise = gaussian() * 10.0 ** np.random.default_rng(1).uniform(-3, 0, WIDTH)
    norms, rows = np.linalg.norm(noise, axis=1), by_name(noise)
    assert rows[f"{NORM}/quantile_0.5"].value == pytest.approx(np.quantile(norms, 0.5, method="hazen"), rel=1e-4)
    assert rows[f"{NORM}/max_share"].value == pytest.approx((norms**2).max() / (norms**2).sum(), rel=1e-4)
    assert rows[f"{NORM}/dispersion"].value == pytest.approx((norms**4).mean() / (norms**2).mean() ** 2 - 1, rel=1e-3)
    assert rows[f"{NORM}/sd_over_mean"].value == pytest.approx(norms.std() / norms.mean(), rel=1e-3)


def test_coordinate_rows_are_means_over_the_coordinates() -> None:
    noise = np.random.default_rng(2).laplace(size=(BATCHES, 50))
    expected = (stats.kurtosis(noise, fisher=False)).mean() - 3
    assert by_name(noise)["across_iterations/coordinate/kurtosis"].value == pytest.approx(expected, rel=1e-4)


def test_scales_of_coordinates_change_no_coordinate_row() -> None:
    """Powers of two from 2^-40 to 2^40: would catch raw coordinates of unequal scale being pooled."""
    noise = np.random.default_rng(3).standard_t(4, (BATCHES, WIDTH))
    scaled = noise * 2.0 ** np.random.default_rng(4).integers(-40, 40, WIDTH)
    plain, stretched = by_name(noise), by_name(scaled)
    for name in plain:
        if "coordinate/" in name:
            assert stretched[name].value == pytest.approx(plain[name].value, rel=1e-3), name
            assert stretched[name].verdict == plain[name].verdict, name


def test_the_unit_of_the_noise_changes_nothing_but_norms() -> None:
    noise = np.random.default_rng(5).standard_t(3, (BATCHES, WIDTH))
    plain, small = by_name(noise), by_name(noise * 2.0**-80)
    for name, row in plain.items():
        factor = 2.0**-80 if "quantile" in name else 1
        assert small[name].value == pytest.approx(row.value * factor, rel=1e-6), name


def test_the_seed_makes_the_report() -> None:
    noise = gaussian()
    assert tail_report(noise, seed=1) == tail_report(noise, seed=1)
    assert tail_report(noise, seed=1) != tail_report(noise, seed=2)


def test_tensors_and_single_precision_are_accepted() -> None:
    noise = torch.from_numpy(gaussian()).float()
    assert tail_report(noise) == tail_report(noise.numpy())


def test_the_p_value_is_the_rank_among_the_surrogates() -> None:
    """Two sides, 999 surrogates, and Holm's factor for the four families."""
    assert by_name(gaussian())["coordinates"].value > 8 / 1000
    heavy = by_name(np.random.default_rng(6).standard_t(2, (BATCHES, WIDTH)))
    assert heavy["coordinates"].value == pytest.approx(2 / 1000 * 4)


def test_heavy_across_iterations_only() -> None:
    """One random factor a batch: Gaussian across the coordinates of a batch, heavy across the batches."""
    factor = 1 / np.sqrt(np.random.default_rng(7).chisquare(3, (BATCHES, 1)) / 3)
    rows = by_name(gaussian(8, width=2000) * factor)
    assert rows["norms"].verdict == rows["coordinates"].verdict == "heavy"
    assert rows["across_coordinates"].verdict == "gaussian"
    assert rows["across_iterations/coordinate/kurtosis"].verdict == "heavy"
    assert rows[f"{NORM}/dispersion"].verdict == "heavy"
    assert rows[f"{ACROSS}/hill_0.05"].value > 4
    assert rows[f"{COORDINATES}/hill_0.05"].value < 4


def test_intervals_know_that_the_coordinates_of_a_batch_depend_on_each_other() -> None:
    """With one factor a batch, 200 coordinates hold no more than 64 values do: the interval must be wide."""
    factor = 1 / np.sqrt(np.random.default_rng(9).chisquare(3, (BATCHES, 1)) / 3)
    dependent = by_name(gaussian(10) * factor)[f"{COORDINATES}/hill_0.05"]
    independent = by_name(np.random.default_rng(11).standard_t(3, (BATCHES, WIDTH)))[f"{COORDINATES}/hill_0.05"]
    assert math.log(dependent.ci_high / dependent.ci_low) > 2 * math.log(independent.ci_high / independent.ci_low)


def test_intervals_hold_what_is_expected_of_gaussian_noise() -> None:
    """The mean excess kurtosis of 64 Gaussian values is −6/65; would catch intervals too narrow, or twice too wide."""
    rows = [by_name(gaussian(seed, 64, 60), seed)["across_iterations/coordinate/kurtosis"] for seed in range(40)]
    assert sum(row.ci_low < -6 / 65 < row.ci_high for row in rows) >= 35
    half_widths = [(row.ci_high - row.ci_low) / 2 for row in rows]
    assert np.mean(half_widths) < 1.5 * 1.96 * np.std([row.value for row in rows])


def test_sparse_and_constant_coordinates_are_counted() -> None:
    noise = gaussian(15, width=300)
    noise[:, :100] = 0.5
    noise[: BATCHES // 2, 100:200] = 0.25
    rows = by_name(noise)
    assert rows["across_iterations/coordinate/sparse_fraction"].value == pytest.approx(2 / 3)
    assert rows[f"{COORDINATES}/mcculloch"].verdict == "gaussian"


def test_a_sketch_stands_for_the_norms_and_projections() -> None:
    """Catches norms of the few kept coordinates, and a sketch that is rotated otherwise than its coordinates."""
    kept, heavy = gaussian(1, width=20), stats.t.rvs(1.5, size=(BATCHES, 1), random_state=2) * gaussian(3)
    rows = {row.statistic: row for row in tail_report(kept, sketch=heavy)}
    alone, whole = by_name(kept), by_name(heavy)
    assert rows[f"{NORM}/hill_0.1"].value == pytest.approx(whole[f"{NORM}/hill_0.1"].value, rel=1e-4)
    assert rows[f"{COORDINATES}/ecf"].value == alone[f"{COORDINATES}/ecf"].value
    assert (alone["norms"].verdict, alone["coordinates"].verdict) == ("gaussian", "gaussian")
    assert (rows["norms"].verdict, rows["coordinates"].verdict) == ("heavy", "gaussian")


def test_the_noise_is_its_own_sketch() -> None:
    noise = gaussian(4)
    assert tail_report(noise, sketch=noise) == tail_report(noise)


def test_coordinates_that_never_vary_leave_the_sketch_to_be_measured() -> None:
    """The kept coordinates of a large embedding may all belong to tokens that no batch had."""
    rows = {row.statistic: row for row in tail_report(np.zeros((BATCHES, 5)), sketch=gaussian(5))}
    assert rows["norms"].verdict == rows["projections"].verdict == "gaussian"
    assert "coordinates" not in rows
    assert rows["across_iterations/coordinate/sparse_fraction"].value == 1
    assert not any(name.startswith((COORDINATES, ACROSS)) for name in rows)


def test_a_sketch_of_other_batches_is_refused() -> None:
    with pytest.raises(ValueError, match="must be the same batches"):
        tail_report(gaussian(), sketch=gaussian(batches=BATCHES + 1))


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (np.ones(5), r"noise must have the shape \[batches, coordinates\], not \[5\]"),
        (np.ones((9, 0)), r"noise must have the shape \[batches, coordinates\], not \[9, 0\]"),
        (np.ones((7, 3)), "noise: 7 batches are too few, at least 8 are needed"),
        (np.full((9, 3), np.nan), "noise must be finite, 27 values are not"),
        (np.ones((9, 3)), "noise is the same in every batch, there is nothing to measure"),
    ],
)
def test_errors_say_what_is_wrong(noise: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        tail_report(noise)
