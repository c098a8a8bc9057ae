"""Verdicts follow from the numbers alone: other numbers, another verdict; and what each needs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from scipy import stats
from whyadam.studies.claims import Claim
from whyadam.studies.judging import judge, judge_all
from whyadam.studies.summary import SummaryRow


def claim(**keys: Any) -> Claim:
    texts = {"name": "c", "claim": "paper 1", "statement": "It is so.", "study": "curves"}
    values = {"claimed": "above", "margin": 0.05}
    if "correlate" not in keys:
        values |= {"quantity": "loss", "left": "sgd"} | ({} if keys.get("compare") == "value" else {"right": "adam"})
    return Claim.model_validate(texts | values | keys)


def seeds(
    subject: str, values: Iterable[float], first: int = 0, study: str = "curves", quantity: str = "loss", **more: Any
) -> list[SummaryRow]:
    """A row a seed, counted from ``first``; five settings tried unless ``more`` says otherwise."""
    key = {"study": study, "scale": "quick", "subject": subject, "quantity": quantity}
    more = {"tried": 5, "at_edge": False} | more
    return [SummaryRow(**key, seed=first + number, value=value, **more) for number, value in enumerate(values)]


def interval(
    subject: str, value: float, half_width: float, study: str = "curves", quantity: str = "loss", **more: Any
) -> list[SummaryRow]:
    key = {"study": study, "scale": "quick", "subject": subject, "quantity": quantity}
    more = {"samples": 500} | more
    return [SummaryRow(**key, value=value, ci_low=value - half_width, ci_high=value + half_width, **more)]


SGD, ADAM = [5.5, 5.6, 5.4], [5.2, 5.25, 5.15]


# The effect and its interval


def test_a_difference_is_paired_by_seed_whatever_the_order_of_the_rows() -> None:
    found = judge(claim(), [*reversed(seeds("sgd", SGD)), *seeds("adam", ADAM)], "quick")
    theirs = stats.ttest_rel(SGD, ADAM).confidence_interval(0.95)
    assert found.effect
    assert (found.effect.low, found.effect.high) == pytest.approx((theirs.low, theirs.high))
    assert (found.verdict, found.samples, found.sampled, found.tried) == ("reproduced", 3, "seeds", (5, 5))
    assert (found.scale, found.reason) == ("quick", "")


def test_only_seeds_that_both_sides_have_count() -> None:
    found = judge(claim(), [*seeds("sgd", [*SGD, 100.0]), *seeds("adam", ADAM)], "quick")
    assert found.effect
    assert found.effect.value == pytest.approx(sum(SGD) / 3 - sum(ADAM) / 3)
    assert found.samples == 3


def test_a_ratio_of_seeds_is_that_of_geometric_means() -> None:
    found = judge(claim(compare="ratio", margin=1.01), [*seeds("sgd", [1, 2, 4]), *seeds("adam", [0.5, 1, 2])], "quick")
    assert found.effect
    assert (found.effect.value, found.effect.low, found.effect.high) == pytest.approx((2, 2, 2))


def test_intervals_on_both_sides_are_taken_as_independent() -> None:
    rows = [*interval("sgd", 1.0, 0.3, samples=90), *interval("adam", 0.2, 0.4, samples=40)]
    found = judge(claim(), rows, "quick")
    assert found.effect
    assert (found.effect.value, found.effect.low, found.effect.high) == pytest.approx((0.8, 0.3, 1.3))
    assert (found.verdict, found.samples, found.sampled) == ("reproduced", 40, "samples")


def test_a_ratio_of_intervals_may_reach_down_to_zero_or_up_for_ever() -> None:
    rows = [*interval("sgd", 1.0, 1.5), *interval("adam", 1.0, 0.0)]
    found = judge(claim(compare="ratio", margin=1.5), rows, "quick")
    assert found.effect
    assert found.effect.low == 0
    endless = [replace(rows[0], ci_low=4.0, value=5.0, ci_high=math.inf), rows[1]]
    assert judge(claim(compare="ratio", margin=1.5), endless, "quick").verdict == "reproduced"


def test_an_interval_that_crosses_the_margin_decides_nothing() -> None:
    for half_width, verdict in ((0.2, "inconclusive"), (0.05, "reproduced")):
        found = judge(claim(compare="value", margin=1.0), interval("sgd", 1.1, half_width), "quick")
        assert found.verdict == verdict


def test_an_effect_at_the_margin_is_not_above_it() -> None:
    assert judge(claim(compare="value", margin=1.0), interval("sgd", 1.0, 0.0), "quick").verdict == "contradicted"


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.0, "reproduced"), (0.95, "inconclusive"), (3.0, "contradicted"), (-3.0, "contradicted")]
)
def test_within_is_a_band(value: float, verdict: str) -> None:
    within = claim(compare="value", claimed="within", margin=1.0)
    assert judge(within, interval("sgd", value, 0.5), "quick").verdict == verdict


# What a verdict needs


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "no summary of curves"),
        (seeds("sgd", SGD), "the summary has no loss of adam"),
        (seeds("sgd", SGD, quantity="accuracy"), "the summary has no loss of sgd and no loss of adam"),
        ([*seeds("sgd", SGD[:2]), *seeds("adam", ADAM)], "seeds of loss of sgd: 2, at least 3 are needed"),
        ([*seeds("sgd", SGD), *seeds("adam", ADAM, first=1)], "seeds in common: 2, at least 3 are needed"),
        ([*seeds("sgd", SGD), *seeds("adam", ADAM, first=7)], "the sides have no seed in common"),
        (
            [*seeds("sgd", SGD, tried=7), *seeds("adam", ADAM)],
            "unequal tuning: settings tried are 7 for sgd and 5 for adam",
        ),
        (
            [*seeds("sgd", SGD, tried=None, at_edge=None), *seeds("adam", ADAM)],
            "unequal tuning: settings tried are nothing for sgd and 5 for adam",
        ),
        (
            [*seeds("sgd", SGD, at_edge=True), *seeds("adam", ADAM)],
            "the best setting of sgd lies at the edge of its grid",
        ),
        ([*seeds("sgd", [*SGD[:2], math.inf]), *seeds("adam", ADAM)], "loss of sgd is not finite"),
        ([*seeds("sgd", SGD), *seeds("adam", [math.nan, *ADAM[1:]])], "loss of adam is not finite"),
        ([*seeds("sgd", SGD), *interval("adam", 5.2, 0.1, tried=5)], "one side has seeds, the other an interval"),
        ([*seeds("sgd", SGD), *seeds("sgd", SGD), *seeds("adam", ADAM)], "the summary has loss of sgd twice"),
        (
            [*interval("sgd", 5.5, 0.01, samples=2), *interval("adam", 5.2, 0.01)],
            "samples of loss of sgd: 2, at least 3 are needed",
        ),
        (
            [replace(interval("sgd", 5.5, 0.01)[0], ci_low=math.nan, ci_high=math.nan), *interval("adam", 5.2, 0.01)],
            "the interval of loss of sgd is not a number",
        ),
        ([*seeds("sgd", SGD), *interval("sgd", 5, 1), *seeds("adam", ADAM)], "has rows of seeds and a row with an"),
    ],
)
def test_without_what_it_needs_a_verdict_is_inconclusive(rows: Sequence[SummaryRow], reason: str) -> None:
    found = judge(claim(), rows, "quick")
    assert found.verdict == "inconclusive"
    assert reason in found.reason


def test_an_unfair_tuning_spoils_the_verdict_and_not_the_number() -> None:
    found = judge(claim(), [*seeds("sgd", SGD, tried=7, at_edge=True), *seeds("adam", ADAM)], "quick")
    assert found.effect
    assert found.effect.value == pytest.approx(0.3)
    assert found.tried == (7, 5)


def test_a_ratio_of_numbers_that_are_not_positive_is_none() -> None:
    found = judge(claim(compare="ratio"), [*seeds("sgd", [1, 2, -1]), *seeds("adam", ADAM)], "quick")
    assert (found.verdict, found.reason, found.effect) == ("inconclusive", "a ratio needs values above 0", None)


# Correlations


def networks(values: Sequence[tuple[float, float]], **more: Any) -> list[SummaryRow]:
    """JS⁰ and gap of one network each."""
    return [
        row
        for number, pair in enumerate(values)
        for quantity, value in zip(("js0", "gap"), pair, strict=True)
        for row in seeds(f"network {number}", [value - 0.01, value, value + 0.01], quantity=quantity, **more)
    ]


CORRELATED = claim(correlate=("js0", "gap"), margin=0.0)


def test_a_correlation_is_over_the_subjects_that_have_both() -> None:
    rows = [*networks([(1, 2), (2, 1), (3, 3), (4, 5), (5, 4), (6, 6), (7, 7)]), *seeds("lonely", SGD, quantity="js0")]
    found = judge(CORRELATED, rows, "quick")
    assert found.effect
    assert found.effect.value == pytest.approx(stats.spearmanr([1, 2, 3, 4, 5, 6, 7], [2, 1, 3, 5, 4, 6, 7]).statistic)
    assert (found.verdict, found.samples, found.sampled, found.tried) == ("reproduced", 7, "subjects", (5, 5))


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (networks([(1, 1), (2, 2), (3, 3), (4, 4)]), "subjects with both js0 and gap: 4, at least 5 are needed"),
        (networks([(1, 1), (2, 2), (3, 3), (4, 4), (5, math.inf)]), "gap of network 4 is not finite"),
        (networks([(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]), "all of js0 or all of gap are equal"),
        (
            networks([(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)], at_edge=True),
            "the best setting of network 4 lies at the edge of its grid",
        ),
        (
            [row for row in networks([(n, n) for n in range(6)]) if row.seed != 2 or row.subject != "network 3"],
            "seeds of js0 of network 3: 2, at least 3 are needed",
        ),
    ],
)
def test_a_correlation_needs_the_same(rows: Sequence[SummaryRow], reason: str) -> None:
    found = judge(CORRELATED, rows, "quick")
    assert found.verdict == "inconclusive"
    assert reason in found.reason


# Several claims and scales


def test_each_scale_is_judged_by_itself_and_a_study_that_was_not_done_once() -> None:
    large = [replace(row, scale="gpu", value=-row.value) for row in [*seeds("sgd", SGD), *seeds("adam", ADAM)]]
    other = claim(name="other").model_copy(update={"study": "missing"})
    found = judge_all([claim(), other], [*seeds("sgd", SGD), *seeds("adam", ADAM), *large])
    assert [(verdict.claim.name, verdict.scale, verdict.verdict) for verdict in found] == [
        ("c", "quick", "reproduced"),
        ("c", "gpu", "contradicted"),
        ("other", "", "inconclusive"),
    ]
