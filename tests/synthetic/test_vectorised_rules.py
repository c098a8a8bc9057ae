"""Every rule over many trials against the optimizer of torch or of the project on each trial alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from whyadam.optimizers import ACClip, CClip, GClip
from whyadam.synthetic.trials import Rule, acclip, adam, cclip, gclip, projected_sgd, row_norms, sgd

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
