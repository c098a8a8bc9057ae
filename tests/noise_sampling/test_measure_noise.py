"""A whole measurement, against formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from whyadam.noise.gradients import looped_example_gradients, reference_gradient
from whyadam.noise.measure import NoiseMeasurement, describe, measure_noise, quantile_row, surrogate_norms
from whyadam.noise.settings import NoiseSettings
from whyadam.noise.sketch import ScopeNoise


def measure(problem: Any, *, batch_size: int = 6, **settings: Any) -> NoiseMeasurement:
    settings = {"batches": 10, "coordinates": 50} | settings
    return measure_noise(
        problem.model, problem.loss, problem, NoiseSettings(**settings), batch_size=batch_size, micro_batch_size=4
    )


def value(measurement: NoiseMeasurement, statistic: str, batch_size: int, scope: str = "all") -> float:
    (found,) = [
        row.value
        for row in measurement.rows
        if (row.scope, row.statistic, row.batch_size) == (scope, statistic, batch_size)
    ]
    return found


def test_least_squares_follow_from_the_example_gradients(least_squares: Any) -> None:
    """60 single examples are every example once, so that norms, variance and noise scale are known exactly."""
    gradients = least_squares.example_gradients()
    mean = gradients.mean(0)
    norms = (gradients - mean).norm(dim=1).numpy()
    measured = measure(least_squares, examples=60)
    np.testing.assert_allclose(np.sort(measured.samples["example_norms"][:, -1]), np.sort(norms), rtol=1e-10)
    assert value(measured, "reference_norm", 1) == pytest.approx(float(mean.norm()), rel=1e-10)
    assert value(measured, "variance", 1) == pytest.approx(float((norms**2).mean()), rel=1e-10)
    assert value(measured, "across_iterations/norm/quantile_0.5", 1) == pytest.approx(float(np.median(norms)))
    trace = float((norms**2).sum()) / 59
    scale = trace / (float(mean.norm()) ** 2 - trace / 60)
    assert value(measured, "noise_scale", 1) == pytest.approx(scale, rel=1e-6)


def test_mini_batches_and_single_examples_have_the_same_noise_scale(least_squares: Any) -> None:
    """It must not depend on the size of the batches that it is measured with."""
    measured = measure(least_squares, batches=600, examples=60)
    assert value(measured, "noise_scale", 6) == pytest.approx(value(measured, "noise_scale", 1), rel=0.15)


def test_raw_samples_are_complete(least_squares: Any) -> None:
    measured = measure(least_squares, examples=9)
    samples = measured.samples
    assert samples["scopes"].tolist() == ["weight", "all"]
    for kind, count in (("batch", 10), ("example", 9)):
        assert samples[f"{kind}_norms"].shape == (count, 2)
        assert samples[f"{kind}_running_variance"].shape == (10, count)
        assert samples[f"{kind}_gaussian_norms"].shape == (99, count)
        coordinates = samples[f"{kind}_coordinates/all"]
        np.testing.assert_allclose(np.linalg.norm(coordinates, axis=1), samples[f"{kind}_norms"][:, 1])
        np.testing.assert_allclose(samples[f"{kind}_sketch_norms"], samples[f"{kind}_norms"][:, 1])
        squares = samples[f"{kind}_norms"][:, 1] ** 2
        np.testing.assert_allclose(samples[f"{kind}_running_variance"][:, -1], squares.mean())
    assert samples["positions/all"].tolist() == list(range(7))


def test_steps_draw_other_batches_and_keep_the_same_coordinates(least_squares: Any) -> None:
    first, again, later = (
        measure_noise(
            least_squares.model,
            least_squares.loss,
            least_squares,
            NoiseSettings(batches=8, coordinates=3),
            batch_size=6,
            step=step,
        ).samples
        for step in (0, 0, 4)
    )
    np.testing.assert_array_equal(first["batch_norms"], again["batch_norms"])
    np.testing.assert_array_equal(first["positions/all"], later["positions/all"])
    assert not np.array_equal(first["batch_norms"], later["batch_norms"])


class BatchNormProblem:
    """40 random examples for a network with BatchNorm and running statistics that are not those of the data."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.x, self.y = torch.randn(40, 5), torch.randn(40)
        self.model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).train()
        self.model(3 * self.x + 1)

    def __len__(self) -> int:
        return 40

    def batch(self, keys: list[tuple[int, int]]) -> dict[str, Tensor]:
        rows = [index for _, index in keys]
        return {"x": self.x[rows], "y": self.y[rows]}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return ((model(batch["x"]).squeeze(1) - batch["y"]) ** 2).sum(), torch.tensor(len(batch["y"]))


def test_single_examples_of_a_batch_norm_model_are_compared_with_a_reference_in_the_same_mode() -> None:
    """Catches noise that is mostly the difference between batch statistics and running statistics."""
    problem = BatchNormProblem()
    measured = measure(problem, examples=40)
    assert {(row.batch_size, row.mode) for row in measured.rows} == {(6, "train"), (1, "eval")}
    whole = problem.batch([(0, index) for index in range(40)])
    problem.model.eval()
    reference = reference_gradient(problem.model, problem.loss, [whole], mode="eval")
    gradients = looped_example_gradients(problem.model, problem.loss, whole)
    squares = sum(((g - r) ** 2).flatten(1).sum(1) for g, r in zip(gradients, reference, strict=True))
    assert value(measured, "variance", 1) == pytest.approx(float(squares.mean()), rel=1e-4)


def test_noise_that_never_varies_has_no_tail_rows(least_squares: Any) -> None:
    """A layer whose gradient is always zero, as behind a classifier that starts at zero."""
    problem = BatchNormProblem()
    nn.init.zeros_(problem.model[2].weight)
    measured = measure(problem, mode="eval")
    of_first_layer = {row.statistic: row.value for row in measured.rows if row.scope == "0.weight"}
    assert "overall" not in of_first_layer
    assert of_first_layer["variance"] == 0
    assert value(measured, "overall", 6, scope="2.weight") <= 1
    assert value(measured, "overall", 6) <= 1


def scope_noise(matrix: np.ndarray, kept: int) -> ScopeNoise:
    return ScopeNoise(np.linalg.norm(matrix, axis=1), matrix[:, :kept], matrix)


def test_norms_are_judged_over_all_coordinates_not_only_the_kept_ones() -> None:
    """The kept coordinates are Gaussian; the tail of the norms comes from the others."""
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((64, 400))
    matrix[:, 100:] *= generator.pareto(1.2, (64, 1)) + 1
    rows = {row.statistic: row for row in describe(scope_noise(matrix, kept=100), seed=0)}
    assert rows["across_iterations/norm/hill_0.2"].verdict in ("heavy", "infinite_variance")
    assert rows["across_iterations/dense_coordinate/ecf"].verdict == "gaussian"
    assert rows["overall"].verdict in ("heavy", "infinite_variance")
    assert len(rows) == len(list(describe(scope_noise(matrix, kept=100), seed=0)))


def test_gaussian_noise_seen_in_part_is_called_gaussian() -> None:
    """Two reports must not make the joint verdict's error rate that of two tests."""
    scales = 10 ** np.random.default_rng(0).uniform(-3, 0, 300)
    verdicts = []
    for seed in range(20):
        matrix = np.random.default_rng(seed).standard_normal((32, 300)) * scales
        (overall,) = [row for row in describe(scope_noise(matrix, kept=100), seed=seed) if row.statistic == "overall"]
        verdicts.append(overall.verdict)
    assert verdicts.count("gaussian") >= 18


def test_the_interval_of_a_quantile_holds_for_every_law() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        row = quantile_row(generator.pareto(1.1, 64), 0.75)
        covered += bool(row.ci_low <= 4 ** (1 / 1.1) - 1 <= row.ci_high)
    assert 0.92 <= covered / 400 <= 0.99


def test_surrogate_norms_have_the_mean_square_of_the_sample() -> None:
    """Rotations keep Σ‖noise‖² of each surrogate."""
    matrix = np.random.default_rng(0).standard_normal((32, 200))
    squares = (surrogate_norms(scope_noise(matrix, 10), 5, seed=0) ** 2).mean(axis=1)
    np.testing.assert_allclose(squares, (matrix**2).sum() / 32, rtol=1e-10)
