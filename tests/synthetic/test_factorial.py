"""Effects of factors on values whose effects are known."""

from __future__ import annotations

import pytest
import torch
from whyadam.synthetic.intervals import effects

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
