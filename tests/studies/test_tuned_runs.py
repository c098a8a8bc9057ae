"""The search for the best learning rate on losses that are known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from whyadam.studies.coded.tuned_runs import Tried, try_rates, tuned


def bowl(optimum: float) -> tuple[list[float], object]:
    """Losses (log10 lr − log10 optimum)² for two seeds, and the list of the rates that were asked for."""
    asked: list[float] = []

    def train(rates: Sequence[float]) -> Tensor:
        asked.extend(rates)
        loss = torch.tensor([(math.log10(rate) - math.log10(optimum)) ** 2 for rate in rates], dtype=torch.float64)
        return loss[:, None].expand(-1, 2)

    return asked, train


@pytest.mark.parametrize("optimum", [1e-5, 1e-3, 0.1, 10, 1e3])
def test_rates_are_added_until_the_best_is_inside(optimum: float) -> None:
    """An optimum beyond the first grid, on either side; no rate is trained twice."""
    asked, train = bowl(optimum)
    tried = try_rates(train, 0.01, 1.0)
    assert tried.rates[tried.best.index] == pytest.approx(optimum)
    assert not tried.best.at_edge
    assert sorted(asked) == tried.rates == sorted(set(asked))
    ratios = [b / a for a, b in zip(tried.rates, tried.rates[1:], strict=False)]
    assert ratios == pytest.approx([math.sqrt(10)] * len(ratios))


def test_the_search_ends_and_says_that_it_is_not_over() -> None:
    tried = try_rates(bowl(1e30)[1], 0.01, 1.0, most=8)
    assert len(tried.rates) <= 9
    assert tried.best.at_edge


def test_a_rate_at_which_one_seed_diverged_is_not_the_best() -> None:
    """Not a number compares as neither better nor worse: it could win, or hide a neighbour."""
    losses = torch.tensor([[3.0, 3.0], [2.0, 2.0], [0.0, math.nan], [math.inf, 0.0], [4.0, 4.0]])
    tried = Tried([1.0, 2.0, 3.0, 4.0, 5.0], losses)
    assert tried.best.index == 1
    assert tried.by_run[2, 1] == math.inf


def test_losses_of_examples_are_averaged_into_those_of_runs() -> None:
    losses = torch.arange(12.0).view(2, 2, 3)
    assert Tried([1.0, 2.0], losses).by_run.tolist() == [[1.0, 4.0], [7.0, 10.0]]


def test_the_best_rate_is_chosen_anew_in_each_sample() -> None:
    losses = torch.tensor([[0.0, 10.0], [4.0, 4.0]], dtype=torch.float64)
    values = torch.tensor([[1.0, 2.0], [3.0, 7.0]], dtype=torch.float64)
    samples = torch.tensor([[0, 0], [0, 1], [1, 1]])
    assert tuned(losses, samples).tolist() == [0.0, 4.0, 4.0]
    assert tuned(losses, samples, values).tolist() == [1.0, 5.0, 7.0]
