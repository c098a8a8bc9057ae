"""Descent with noise: the average, the schedules, and what must hold without noise."""

from __future__ import annotations

import pytest
import torch
from whyadam.data.noise_laws import Gaussian
from whyadam.synthetic.trials import (
    averaged_errors,
    gclip,
    mean_gradient_norms,
    noise_of_steps,
    non_convex_rate,
    non_convex_schedule,
    sgd,
    strongly_convex_rate,
    strongly_convex_schedule,
    wavy_gradient,
)

NONE = torch.zeros(2, 1, dtype=torch.float64)
START = torch.tensor([[1.0], [-3.0]], dtype=torch.float64)


def test_the_average_is_the_weighted_sum_of_the_points_where_gradients_are_taken() -> None:
    """2/(K(K+1)) Σ k x_k, written out; catches a weight or a point that is one off."""
    noise = list(noise_of_steps(Gaussian(), (2, 1), 7, torch.Generator().manual_seed(0)))
    schedule = strongly_convex_schedule(1.5)
    points, x = [], START.clone()
    for step, draw in enumerate(noise, start=1):
        points.append(x.clone())
        x = x - 4 / (step + 1) * (x + draw)
    average = sum(k * point for k, point in enumerate(points, start=1)) * (2 / (7 * 8))
    errors = averaged_errors({"sgd": sgd()}, noise, START, schedule, {3, 7})["sgd"]
    torch.testing.assert_close(errors[1], (average.square() / 2)[:, 0])
    assert errors.shape == (2, 2)


def test_descent_without_noise_is_the_closed_form() -> None:
    """x_{k+1} = (1 − 4/(k+1)) x_k is x₁·(−1)·(−1/3)·0 …: it is 0 from the fourth point on."""
    errors = averaged_errors({"sgd": sgd()}, [NONE] * 9, START, strongly_convex_schedule(2), {9})["sgd"][0]
    average = START * (1 * 1 + 2 * -1 + 3 * (1 / 3)) * 2 / (9 * 10)
    torch.testing.assert_close(errors, (average.square() / 2)[:, 0], atol=1e-12, rtol=1e-9)


def test_a_threshold_never_reached_makes_gclip_sgd() -> None:
    noise = list(noise_of_steps(Gaussian(), (2, 1), 20, torch.Generator().manual_seed(0)))
    errors = averaged_errors({"sgd": sgd(), "gclip": gclip(1e9)}, noise, START, strongly_convex_schedule(1.5), {20})
    assert torch.equal(errors["sgd"], errors["gclip"])


def test_schedules_and_rates_of_the_theorems() -> None:
    schedule = strongly_convex_schedule(1.5, mu=2.0)
    assert (schedule.lr(3), schedule.clip(8)) == (0.5, pytest.approx(4.0))
    schedule = non_convex_schedule(2.0, 16)
    assert (schedule.lr(1), schedule.clip(9)) == (pytest.approx(0.25), pytest.approx(2.0))
    assert strongly_convex_rate(2.0) == -1.0
    assert non_convex_rate(2.0) == -0.25
    assert strongly_convex_rate(1.0) == non_convex_rate(1.0) == 0.0


def test_the_wavy_gradient_is_the_derivative_of_its_function() -> None:
    x = torch.linspace(-4, 4, 41, dtype=torch.float64, requires_grad=True)
    (x.square() / 2 + 3 * x.sin().square()).sum().backward()
    torch.testing.assert_close(wavy_gradient(x.detach()), x.grad)


def test_the_mean_gradient_norm_is_over_all_points_of_a_trial() -> None:
    """On f = x²/2 at a constant lr the points are x₁(1 − lr)^(k−1)."""
    schedule = non_convex_schedule(2.0, 16)
    norms = mean_gradient_norms({"sgd": sgd()}, [NONE] * 3, START, schedule, lambda x: x)["sgd"]
    torch.testing.assert_close(norms, START[:, 0].abs() * (1 + 0.75 + 0.75**2) / 3)


def test_there_is_one_draw_a_step_however_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches steps that are lost or repeated at the end of a chunk."""
    monkeypatch.setattr("whyadam.synthetic.trials.DRAWS_AT_ONCE", 40)
    draws = torch.stack(list(noise_of_steps(Gaussian(), (5, 2), 11, torch.Generator().manual_seed(3))))
    assert draws.shape == (11, 5, 2)
    assert len(draws.flatten().unique()) == draws.numel()
