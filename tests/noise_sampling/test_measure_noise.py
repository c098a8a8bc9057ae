"""A whole measurement, against formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from whyadam.noise import gradient_noise
from whyadam.noise.gradients import (
    example_gradients,
    example_noise,
    looped_example_gradients,
    reference_gradient,
)
from whyadam.noise.measure import (
    NoiseMeasurement,
    describe,
    measure_noise,
    quantile_row,
    surrogate_norms,
    tail_rows,
)
from whyadam.noise.settings import NoiseSettings
from whyadam.noise.sketch import ALL, Reduction, ScopeNoise
from whyadam.noise.verdicts import FAMILIES


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
    # The gradient over all of the training part is exact; its trace has the sum of squares over 59.
    assert value(measured, "noise_scale", 1) == pytest.approx(trace / float(mean.norm()) ** 2, rel=1e-6)


@pytest.mark.parametrize(("batches", "examples"), [(5, 30), (10, 60), (12, 60)])
def test_the_noise_scale_knows_what_the_reference_holds(least_squares: Any, batches: int, examples: int) -> None:
    """Different examples out of a population of 60; more batches than the training part has are all of it."""
    measured = measure(least_squares, reference=batches)
    squares = measured.samples["batch_norms"][:, -1] ** 2
    trace = squares.mean() / (1 / 6 + 1 / examples - 2 / 60)
    squared_gradient = value(measured, "reference_norm", 6) ** 2 - trace * (1 / examples - 1 / 60)
    assert value(measured, "noise_scale", 6) == pytest.approx(trace / squared_gradient, rel=1e-9)


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
    assert "norms" not in of_first_layer
    assert of_first_layer["variance"] == 0
    assert value(measured, "norms", 6, scope="2.weight") <= 1
    assert value(measured, "norms", 6) <= 1


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
    assert rows["norms"].verdict in ("heavy", "infinite_variance")
    assert rows["coordinates"].verdict in ("gaussian", "mild")
    assert len(rows) == len(describe(scope_noise(matrix, kept=100), seed=0))


def test_gaussian_noise_seen_in_part_is_called_gaussian() -> None:
    """The families together are called otherwise in one of twenty samples."""
    scales = 10 ** np.random.default_rng(0).uniform(-3, 0, 300)
    verdicts = []
    for seed in range(20):
        matrix = np.random.default_rng(seed).standard_normal((32, 300)) * scales
        rows = {row.statistic: row for row in describe(scope_noise(matrix, kept=100), seed=seed)}
        verdicts.append({rows[family].verdict for family in FAMILIES})
    assert verdicts.count({"gaussian"}) >= 18


def test_layers_are_judged_together_and_the_whole_model_by_itself() -> None:
    """The p-value of a layer grows with the number of layers beside it; a heavy one is found all the same."""
    generator = np.random.default_rng(1)
    layers = {f"layer{number}": scope_noise(generator.standard_normal((32, 100)), kept=20) for number in range(6)}
    heavy = scope_noise(generator.standard_normal((32, 100)) * (generator.pareto(1.5, (32, 1)) + 1), kept=20)
    alone = {row.statistic: row for row in tail_rows({"layer0": layers["layer0"]}, seed=0)["layer0"]}
    together = tail_rows({**layers, "heavy": heavy, ALL: layers["layer0"]}, seed=0)
    rows = {scope: {row.statistic: row for row in of_scope} for scope, of_scope in together.items()}
    assert rows["heavy"]["norms"].verdict == "heavy"
    assert all(rows[scope]["norms"].verdict == "gaussian" for scope in layers)
    assert rows["layer0"]["norms"].value >= alone["norms"].value
    assert rows[ALL] == {row.statistic: row for row in tail_rows({ALL: layers["layer0"]}, seed=0)[ALL]}


def test_batches_of_unequal_size_are_weighted(least_squares: Any) -> None:
    """A last batch of a tenth of the size is otherwise an outlier among Gaussian samples."""
    generator = torch.Generator().manual_seed(2)
    sizes = [200] * 15 + [20]
    examples = torch.randn(sum(sizes), 50, generator=generator, dtype=torch.float64)
    model = nn.Linear(50, 1, bias=False, dtype=torch.float64)

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return model(batch["x"]).sum(), torch.tensor(len(batch["x"]))

    batches = [{"x": part} for part in examples.split(sizes)]
    norms = gradient_noise(model, loss, [{"x": examples}], batches)[ALL].norms
    mean = np.mean(sizes)
    assert np.mean(norms**2) == pytest.approx(50 / mean, rel=0.2)
    assert norms.max() < 1.5 * np.median(norms)
    unweighted = (examples[-20:].mean(0) - examples.mean(0)).norm() * (20 / mean) ** 0.5
    assert norms[-1] == pytest.approx(float(unweighted), rel=1e-6)


def test_single_examples_of_unequal_size_are_weighted() -> None:
    """Catches terms that are counted in another order than the gradients, or not at all."""
    model = nn.Linear(3, 1, bias=False)
    x, counts = torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(3)), torch.tensor([1, 2, 4] * 3)
    mask = torch.arange(4)[None] < counts[:, None]

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return (model(batch["x"]).squeeze(-1) * batch["mask"]).sum(), batch["mask"].sum()

    zero = [torch.zeros(1, 3)]
    for broken in (False, True):
        terms: list[float] = []
        parts = [{"x": x[:5], "mask": mask[:5]}, {"x": x[5:], "mask": mask[5:]}]
        gradients = looped_example_gradients if broken else example_gradients
        noise = list(example_noise(model, loss, parts, zero, mode="eval", terms=terms))
        assert terms == counts.tolist()
        expected = torch.cat([gradients(model, loss, part)[0] for part in parts])
        torch.testing.assert_close(torch.cat([stack[0] for stack in noise]), expected)
    kept = Reduction(dict(model.named_parameters()), 3, seed=0).reduce(noise, terms)[ALL]
    weights = np.sqrt(counts.numpy() / counts.float().mean().item())
    np.testing.assert_allclose(kept.norms, expected.flatten(1).norm(dim=1).numpy() * weights, rtol=1e-5)


def test_the_interval_of_a_quantile_holds_for_every_law() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        row = quantile_row(generator.pareto(1.1, 64), 0.75)
        covered += bool(row.ci_low <= 4 ** (1 / 1.1) - 1 <= row.ci_high)
    assert 0.95 <= covered / 400 <= 0.99


def test_an_interval_that_no_order_statistic_closes_stays_open() -> None:
    """The smallest of 64 values lies above the 5 % quantile with probability 0.95^64 = 3.8 % > 2.5 %."""
    row = quantile_row(np.random.default_rng(1).pareto(2, 64), 0.05)
    assert row.ci_low is None
    assert row.ci_high is not None


def test_surrogate_norms_have_the_mean_square_of_the_sample() -> None:
    """Rotations keep Σ‖noise‖² of each surrogate."""
    matrix = np.random.default_rng(0).standard_normal((32, 200))
    squares = (surrogate_norms(scope_noise(matrix, 10), 5, seed=0) ** 2).mean(axis=1)
    np.testing.assert_allclose(squares, (matrix**2).sum() / 32, rtol=1e-10)
