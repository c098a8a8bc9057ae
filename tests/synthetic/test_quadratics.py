"""Quadratics: their eigenvalues, rotations, blocks; and iteration counts against closed forms and plain loops."""

from __future__ import annotations

import math
from itertools import chain

import pytest
import torch
from torch import Tensor
from whyadam.data.quadratic import random_rotations
from whyadam.synthetic.quadratics import (
    HETEROGENEOUS,
    HOMOGENEOUS,
    Quadratics,
    condition_numbers,
    conditioned,
    draw_quadratics,
    eigenvalues_of_nodes,
    preconditioned_iterations,
    simulated_iterations,
)
from whyadam.synthetic.trials import adam, gclip, sgd


def drawn(blocks: object = HETEROGENEOUS, *, trials: int = 20, dense: bool = False) -> Quadratics:
    return draw_quadratics(blocks, trials, torch.Generator().manual_seed(0), dense=dense)  # type: ignore[arg-type]


@pytest.mark.parametrize("dense", [False, True])
def test_each_trial_has_the_given_eigenvalues(dense: bool) -> None:
    problems = drawn(dense=dense)
    wanted = torch.tensor([1, 2, 3, 99, 100, 101, 4998, 4999, 5000], dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.eigvalsh(problems.hessian), wanted.expand(20, 9))
    torch.testing.assert_close(condition_numbers(problems.hessian), torch.full((20,), 5000.0, dtype=torch.float64))


def test_blocks_are_rotated_each_on_its_own() -> None:
    problems = drawn()
    for block, eigenvalues in zip(problems.blocks(), HETEROGENEOUS, strict=True):
        torch.testing.assert_close(
            torch.linalg.eigvalsh(block), torch.tensor(eigenvalues, dtype=torch.float64).expand(20, 3)
        )
    outside = problems.hessian.clone()
    for start in (0, 3, 6):
        outside[:, start : start + 3, start : start + 3] = 0
    assert not outside.any()
    assert drawn(dense=True).sizes == (9,)
    assert float(drawn(dense=True).hessian[:, 0, 8].abs().min()) > 0


def test_rotations_are_uniform() -> None:
    """Orthogonal, of both determinants, and every entry has mean 0 and variance 1/n; QR alone fails the mean."""
    rotations = random_rotations(4000, 3, torch.Generator().manual_seed(0))
    identity = torch.eye(3, dtype=torch.float64).expand(4000, 3, 3)
    torch.testing.assert_close(rotations @ rotations.mT, identity, atol=1e-12, rtol=0)
    assert 0.45 < float((torch.linalg.det(rotations) > 0).double().mean()) < 0.55
    assert float(rotations.mean(0).abs().max()) < 5 * math.sqrt(1 / 3 / 4000)
    assert float((rotations.square().mean(0) - 1 / 3).abs().max()) < 0.03


def test_the_same_eigenvalues_are_in_both_cases() -> None:
    assert sorted(chain(*HETEROGENEOUS)) == sorted(chain(*HOMOGENEOUS))


def test_conditioned_is_one_affine_map() -> None:
    blocks = conditioned([[-1.0, 0.0], [1.0, 3.0]], 5000)
    assert blocks == [[1.0, pytest.approx(1 + 4999 / 4)], [pytest.approx(1 + 4999 / 2), 5000.0]]
    with pytest.raises(ValueError, match="one eigenvalue"):
        conditioned([[2.0], [2.0]], 5000)


def test_measured_nodes_are_spread_evenly_with_both_ends() -> None:
    nodes = [("a", 0, node) for node in (4.0, 0.0, 1.0, 2.0, 3.0)] + [("a", 1, 77.0), ("b", 0, 5.0), ("b", 0, 6.0)]
    rows = [{"block": block, "probe": probe, "node": node} for block, probe, node in nodes]
    assert eigenvalues_of_nodes(rows, 3) == {"a": [0.0, 2.0, 4.0], "b": [5.0, 6.0]}


def ones(problems: Quadratics) -> Tensor:
    return torch.ones_like(problems.start)


def test_gradient_descent_takes_as_many_iterations_as_the_closed_form_says() -> None:
    """Two eigenvalues 1 and κ at lr 2/(1 + κ): the loss falls by ((κ−1)/(κ+1))² an iteration, exactly."""
    problems = drawn([[1.0], [100.0]], trials=3)
    needed = preconditioned_iterations(problems, ones(problems), 1e-6, torch.tensor([1.0], dtype=torch.float64))
    assert needed.tolist() == [[math.ceil(math.log(1e-6) / (2 * math.log(99 / 101)))] * 3]


@pytest.mark.parametrize("preconditioned", [False, True])
def test_exact_counts_are_those_of_running_it(preconditioned: bool) -> None:
    problems = drawn([[1.0, 2.0], [30.0, 90.0]], trials=10)
    scale = problems.gradient(problems.start).abs() if preconditioned else ones(problems)
    fractions = torch.tensor([0.6, 0.9, 1.0], dtype=torch.float64)
    exact = preconditioned_iterations(problems, scale, 1e-3, fractions)
    root = scale.sqrt()
    values = torch.linalg.eigvalsh(problems.hessian / (root.unsqueeze(1) * root.unsqueeze(2)))
    lr = 2 / (values[:, :1] + values[:, -1:])
    for counts, fraction in zip(exact, fractions, strict=True):
        w, needed = problems.start.clone(), torch.full((10,), torch.inf, dtype=torch.float64)
        first = (w * problems.gradient(w)).sum(1)
        for iteration in range(1, int(exact.max()) + 2):
            w = w - fraction * lr * problems.gradient(w) / scale
            reached = (w * problems.gradient(w)).sum(1) <= 1e-3 * first
            needed[reached & needed.isinf()] = iteration
        assert counts.tolist() == needed.tolist()


def test_beyond_the_largest_stable_rate_the_tolerance_is_not_reached() -> None:
    problems = drawn()
    needed = preconditioned_iterations(problems, ones(problems), 1e-6, torch.tensor([1.05], dtype=torch.float64))
    assert bool(needed.isinf().all())


def test_the_simulation_of_gradient_descent_has_the_exact_counts() -> None:
    problems = drawn([[1.0, 2.0], [30.0, 90.0]], trials=10)
    fractions = torch.tensor([0.8, 1.0], dtype=torch.float64)
    exact = preconditioned_iterations(problems, ones(problems), 1e-4, fractions)
    rates = fractions * 2 / 91
    unlimited = torch.full_like(rates, torch.inf)
    for rule in (sgd(), gclip()):
        assert torch.equal(simulated_iterations(problems, rule, rates, unlimited, 1e-4, 1000), exact)


def test_what_is_not_reached_is_infinite() -> None:
    """Adam at a constant rate ends in a cycle as large as the rate."""
    problems = drawn(trials=5)
    rates = torch.tensor([0.5], dtype=torch.float64)
    needed = simulated_iterations(problems, adam((0.0, 0.9)), rates, torch.tensor([torch.inf]), 1e-12, 300)
    assert bool(needed.isinf().all())


def test_block_scale_makes_each_blocks_best_rate_one() -> None:
    problems = drawn()
    scaled = problems.hessian / problems.block_scale().unsqueeze(2)
    values = torch.linalg.eigvals(scaled).real.sort(1).values
    for start, middle in ((0, 2), (3, 100), (6, 4999)):
        torch.testing.assert_close(
            problems.block_scale()[:, start : start + 3], torch.full((20, 3), float(middle), dtype=torch.float64)
        )
    assert float(values.min()) == pytest.approx(0.5)
    assert float(values.max()) == pytest.approx(1.5)
