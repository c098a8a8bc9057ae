"""Update rules over many trials at once, noisy descent, and the size of a noise vector."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.optim import Optimizer
from whyadam.data.noise_laws import AlphaStable, CoinFlip, Gaussian, NoiseLaw, Pareto, StudentT
from whyadam.errors import UserError
from whyadam.optimizers import ACClip, CClip, GClip
from whyadam.synthetic.trials import (
    Rule,
    acclip,
    adam,
    averaged_errors,
    cclip,
    gclip,
    mean_gradient_norms,
    noise_of_steps,
    non_convex_rate,
    non_convex_schedule,
    projected_sgd,
    row_norms,
    sgd,
    strongly_convex_rate,
    strongly_convex_schedule,
    typical_norm,
    wavy_gradient,
)

TRIALS, COORDINATES, STEPS = 4, 3, 30

PAIRS: dict[str, tuple[Callable[[], Rule], Callable[[list[nn.Parameter], float, float], Optimizer]]] = {
    "sgd": (sgd, lambda x, lr, clip: torch.optim.SGD(x, lr)),
    "sgd with momentum": (lambda: sgd(0.9), lambda x, lr, clip: torch.optim.SGD(x, lr, momentum=0.9)),
    "adam": (adam, lambda x, lr, clip: torch.optim.Adam(x, lr)),
    "adam without momentum": (lambda: adam((0.0, 0.9)), lambda x, lr, clip: torch.optim.Adam(x, lr, betas=(0.0, 0.9))),
    "gclip": (lambda: gclip(2.0), lambda x, lr, clip: GClip(x, lr, 2 * clip)),
    "cclip": (lambda: cclip(2.0), lambda x, lr, clip: CClip(x, lr, 2 * clip)),
    "acclip": (acclip, lambda x, lr, clip: ACClip(x, lr)),
    "acclip 1.5": (lambda: acclip(alpha=1.5), lambda x, lr, clip: ACClip(x, lr, alpha=1.5)),
}


def gradients() -> Tensor:
    """``[steps, trials, coordinates]``, of very different sizes, so that some are clipped and some are not."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(STEPS, TRIALS, COORDINATES, dtype=torch.float64, generator=generator)
    return normal * torch.tensor([0.1, 1.0, 3.0, 30.0], dtype=torch.float64).view(1, -1, 1)


@pytest.mark.parametrize("name", PAIRS)
def test_each_trial_goes_the_way_of_the_optimizer_alone(name: str) -> None:
    """Catches norms over all trials, a state that trials share, and a formula that differs from the optimizer's."""
    make_rule, make_optimizer = PAIRS[name]
    x, rule = torch.ones(TRIALS, COORDINATES, dtype=torch.float64), make_rule()
    alone = [nn.Parameter(torch.ones(COORDINATES, dtype=torch.float64)) for _ in range(TRIALS)]
    optimizers = [make_optimizer([parameter], 0.01, 1.0) for parameter in alone]
    for gradient in gradients():
        rule(x, gradient, 0.01, 1.0)
        for parameter, row, optimizer in zip(alone, gradient, optimizers, strict=True):
            parameter.grad = row.clone()
            optimizer.step()
    torch.testing.assert_close(x, torch.stack([parameter.data for parameter in alone]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", PAIRS)
def test_a_table_of_settings_equals_one_setting_after_the_other(name: str) -> None:
    """As the quadratics use the rules: lr and clip ``[settings, 1, 1]``, x ``[settings, trials, coordinates]``."""
    lr, clip = torch.tensor([0.01, 0.1], dtype=torch.float64), torch.tensor([0.5, 2.0], dtype=torch.float64)
    together, rule = torch.ones(2, TRIALS, COORDINATES, dtype=torch.float64), PAIRS[name][0]()
    separate = [(torch.ones(TRIALS, COORDINATES, dtype=torch.float64), PAIRS[name][0]()) for _ in range(2)]
    for gradient in gradients():
        rule(together, gradient.expand(2, -1, -1), lr.view(2, 1, 1), clip.view(2, 1, 1))
        for (x, one), rate, threshold in zip(separate, lr, clip, strict=True):
            one(x, gradient, float(rate), float(threshold))
    torch.testing.assert_close(together, torch.stack([x for x, _ in separate]), rtol=1e-12, atol=1e-14)


def test_projected_sgd_goes_to_the_nearest_point_of_the_ball() -> None:
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    projected_sgd(2.0)(x, torch.tensor([[-30.0, 40.0], [-0.3, 0.4]], dtype=torch.float64), 1.0, 0.0)
    torch.testing.assert_close(x, torch.tensor([[1.2, -1.6], [0.3, -0.4]], dtype=torch.float64))


def test_row_norms_of_one_coordinate_and_of_more() -> None:
    assert row_norms(torch.tensor([[-3.0], [2.0]])).tolist() == [[3.0], [2.0]]
    assert row_norms(torch.tensor([[3.0, 4.0], [0.0, 2.0]])).tolist() == [[5.0], [2.0]]


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


@pytest.mark.parametrize("coordinates", [1, 3, 1000, 1_000_000])
def test_gaussian_vectors_have_the_norm_of_the_chi_law(coordinates: int) -> None:
    assert typical_norm(Gaussian(), coordinates) == pytest.approx(stats.chi(coordinates).median(), rel=0.15)


@pytest.mark.parametrize("law", [AlphaStable(alpha=1.5), Pareto(alpha=1.2), StudentT(alpha=5)], ids=str)
def test_large_vectors_are_extrapolated_to_what_drawing_them_gives(law: NoiseLaw) -> None:
    """Forty times more coordinates than are drawn; catches a wrong power of the number of coordinates."""
    generator = torch.Generator().manual_seed(5)
    norms = torch.stack([torch.linalg.vector_norm(law.draw((200_000,), generator)) for _ in range(51)])
    assert typical_norm(law, 200_000) == pytest.approx(float(norms.median()), rel=0.15)


def test_a_law_without_variance_grows_faster_than_one_with() -> None:
    growth = typical_norm(AlphaStable(alpha=1.25), 10**8) / typical_norm(AlphaStable(alpha=1.25), 10**6)
    assert growth == pytest.approx(100 ** (1 / 1.25))
    assert typical_norm(Gaussian(), 10**8) == pytest.approx(1e4)


def test_noise_that_is_mostly_zero_has_no_scale() -> None:
    rare = CoinFlip(alpha=1.5, gamma=0.01)
    with pytest.raises(UserError, match="0 most of the time"):
        typical_norm(rare, 10)
    assert typical_norm(rare, 10**6) == pytest.approx(math.sqrt(1e6 * rare.moment(2)))
