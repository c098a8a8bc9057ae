"""Statistics over trials and their bootstrap intervals; effects of factors varied in all combinations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from whyadam.synthetic.intervals import (
    STATISTICS,
    effects,
    ends,
    log_slope,
    resampled,
    resamples,
    statistics,
    with_interval,
)


def test_the_slope_of_a_power_law_is_its_power() -> None:
    steps = np.array([10, 30, 200, 1000])
    errors = np.stack([5 * steps**-0.7, 0.1 * steps**1.2])
    np.testing.assert_allclose(log_slope(steps, errors), [-0.7, 1.2])


def test_statistics_are_over_trials() -> None:
    values = np.arange(1.0, 101).reshape(1, 100)
    found = dict(zip(STATISTICS, statistics(values), strict=True))
    assert found["mean"][0] == found["median"][0] == 50.5
    assert found["quantile_90"][0] == pytest.approx(90.1)
    assert found["quantile_99"][0] == pytest.approx(99.01)


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    """95 % within three binomial standard errors of 1.5 %; an interval of 90 % or 99.9 % fails."""
    generator = np.random.default_rng(0)
    covered = 0
    for repetition in range(200):
        values = generator.uniform(size=(1, 80))
        low, high = ends(resampled(values, lambda drawn: drawn.mean(axis=-1), 200, seed=repetition))
        covered += bool(low[0] <= 0.5 <= high[0])
    assert 0.95 - 0.046 <= covered / 200 <= 0.95 + 0.046


def test_a_trial_is_drawn_with_all_its_entries() -> None:
    """Errors at different K of one trial belong together: their ratio is the same in each sample."""
    values = np.random.default_rng(0).random(50)
    drawn = resampled(np.stack([values, 3 * values]), statistics, 20, seed=1)
    np.testing.assert_allclose(drawn[:, 0, 1] / drawn[:, 0, 0], 3)


def test_infinite_values_stay_in_order() -> None:
    """Interpolating between infinite values would give NaN."""
    low, high = ends(np.array([1.0] * 50 + [np.inf] * 50))
    assert (low, high) == (1.0, np.inf)


def test_resamples_draw_all_seeds_equally_often_and_repeat() -> None:
    drawn = resamples(5, 4000, seed=1)
    assert torch.equal(drawn, resamples(5, 4000, seed=1))
    assert (drawn.flatten().bincount() / drawn.numel()).tolist() == pytest.approx([0.2] * 5, abs=0.01)


def test_intervals_hold_the_mean_about_as_often_as_they_say() -> None:
    """95 % in the limit of many seeds; an interval of one standard error would hold it in 68 %."""
    generator = torch.Generator().manual_seed(0)
    held = 0
    for trial in range(300):
        values = torch.randn(40, generator=generator, dtype=torch.float64)
        _, low, high = with_interval(lambda s, values=values: values[s].mean(1), 40, count=400, seed=trial).values()
        held += low < 0 < high
    assert 0.9 < held / 300 < 0.98


CONTRASTS = [{"noise": (-1, 1, 0), "tail": (0, -1, 1)}, {"blocks": (-1, 1)}, {"classes": (-1, 1)}]
NOISE = torch.tensor([0.0, 2.0, 7.0], dtype=torch.float64)[:, None, None]
BLOCKS = torch.tensor([0.0, 3.0], dtype=torch.float64)[None, :, None]
CLASSES = torch.tensor([0.0, 11.0], dtype=torch.float64)[None, None, :]


def found(values: torch.Tensor) -> dict[str, float]:
    return {name: float(value) for name, value in effects(values[..., None], CONTRASTS).items()}


def test_what_adds_up_has_main_effects_only() -> None:
    results = found(NOISE + BLOCKS + CLASSES + 5)
    assert {name: value for name, value in results.items() if abs(value) > 1e-12} == pytest.approx(
        {"noise": 2, "tail": 5, "blocks": 3, "classes": 11}
    )
    assert len(results) == 4 + 5 + 2


def test_what_needs_two_factors_at_once_is_their_interaction() -> None:
    """BLOCKS · CLASSES is 33 in one corner of their square: half of it is the main effect of each."""
    results = found((BLOCKS * CLASSES).expand(3, 2, 2))
    assert {name: value for name, value in results.items() if abs(value) > 1e-12} == pytest.approx(
        {"blocks": 16.5, "classes": 16.5, "blocks x classes": 33}
    )


def test_what_needs_all_three_is_in_the_highest_interaction() -> None:
    results = found((NOISE > 2) * BLOCKS * CLASSES)
    assert results["tail x blocks x classes"] == pytest.approx(33)
    assert results["noise x blocks x classes"] == pytest.approx(0)


def test_samples_are_kept_apart() -> None:
    values = torch.stack([(NOISE + BLOCKS + CLASSES), 2 * (NOISE + BLOCKS + CLASSES)], dim=-1)
    assert effects(values, CONTRASTS)["tail"].tolist() == pytest.approx([5, 10])
