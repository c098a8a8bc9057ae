"""Learning-rate schedules in closed form."""

from __future__ import annotations

import math

import pytest
from whyadam.configs.schema import Schedule, Training
from whyadam.training.schedules import learning_rate_factor, number_of_steps


def factors(schedule: Schedule, steps: int) -> list[float]:
    return [learning_rate_factor(schedule, step, steps) for step in range(steps)]


def test_constant_is_one() -> None:
    assert factors(Schedule(), 3) == [1, 1, 1]


def test_warm_up_rises_in_equal_parts_and_its_last_step_is_full() -> None:
    assert factors(Schedule(warmup_steps=4), 6) == [0.25, 0.5, 0.75, 1, 1, 1]


def test_linear_falls_in_equal_parts_to_its_share() -> None:
    assert factors(Schedule(name="linear"), 4) == [1, 0.75, 0.5, 0.25]
    assert factors(Schedule(name="linear", final=0.5), 4) == [1, 0.875, 0.75, 0.625]


def test_cosine_is_a_half_wave_after_the_warm_up() -> None:
    expected = [0.5, 1, 1] + [(1 + math.cos(math.pi * part / 3)) / 2 for part in (1, 2)]
    assert factors(Schedule(name="cosine", warmup_steps=2), 5) == pytest.approx(expected)


def test_epochs_become_steps_without_the_incomplete_batch() -> None:
    assert number_of_steps(Training(epochs=3, batch_size=4), examples=11) == 6
    assert number_of_steps(Training(epochs=3, batch_size="full", micro_batch_size=4), examples=11) == 3
    assert number_of_steps(Training(steps=5), examples=11) == 5
