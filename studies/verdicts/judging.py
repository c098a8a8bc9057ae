"""Which claims a summary bears out: a pure function of the claim and the rows.

Intervals over seeds are those at the settings that tuning chose: that other seeds might have chosen other settings is
not in them. The studies of the causes apart choose anew in each bootstrap sample.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .claims import Claim
from .effects import Effect, difference_of_independent, mean_over_seeds, rank_correlation
from .learning import doubts_of_learning
from .sides import Side, doubts_of_pair, problems_of_pair, shared_seeds
from .summary import SummaryRow

FEWEST_SUBJECTS = 5
"""Of a correlation."""

Word = Literal["reproduced", "contradicted", "inconclusive"]


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: which.
        verdict: ``reproduced`` where the whole interval lies on the claimed side of the margin, ``contradicted`` where
            it lies wholly on the other, else ``inconclusive``; so too where something the verdict needs is missing.
        effect: the estimate and its 95 % interval; None where there is none.
        samples: how many of ``sampled`` are behind it.
        sampled: seeds, samples (of an interval of the study's own), or subjects (of a correlation).
        tried: settings tried in tuning, of each side; None where nothing was tuned.
        scale: of the study; empty where there is no summary of it.
        reason: why the verdict is inconclusive; else empty.
    """

    claim: Claim
    verdict: Word
    effect: Effect | None
    samples: int
    sampled: str
    tried: tuple[int | None, ...]
    scale: str
    reason: str


def judge_all(claims: Iterable[Claim], rows: Sequence[SummaryRow]) -> list[Verdict]:
    """A verdict a claim and a scale at which its study was done, and one a claim whose study was not done."""
    by_study: dict[str, dict[str, list[SummaryRow]]] = {}
    for row in rows:
        by_study.setdefault(row.study, {}).setdefault(row.scale, []).append(row)
    return [
        judge(claim, of_scale, scale)
        for claim in claims
        for scale, of_scale in by_study.get(claim.study, {"": []}).items()
    ]


def judge(claim: Claim, rows: Sequence[SummaryRow], scale: str) -> Verdict:
    """The verdict on one claim.

    Args:
        claim: which.
        rows: of its study at one scale; none where the study was not done.
        scale: their scale.
    """
    if not rows:
        return _missing(claim, scale, f"no summary of {claim.study}")
    return _judge_correlation(claim, rows, scale) if claim.correlate else _judge_subjects(claim, rows, scale)


def _judge_subjects(claim: Claim, rows: Sequence[SummaryRow], scale: str) -> Verdict:
    """The verdict on a number of one subject, or on a comparison of two."""
    subjects = [subject for subject in (claim.left, claim.right) if subject is not None]
    sides = [Side.of(rows, subject, claim.quantity or "") for subject in subjects]
    absent = [side.name for side in sides if not side.rows]
    if absent:
        return _missing(claim, scale, f"the summary has no {' and no '.join(absent)}")
    problems = [problem for side in sides for problem in side.problems()] + problems_of_pair(sides)
    if claim.compare == "ratio" and not all(side.is_positive for side in sides):
        problems.append("a ratio needs values above 0")
    effect = None if problems else _effect(claim, sides)
    problems += [doubt for side in sides for doubt in side.doubts()] + doubts_of_pair(sides)
    problems += doubts_of_learning(rows, sides)
    seeds = shared_seeds(sides)
    samples, sampled = (len(seeds), "seeds") if seeds else (min(side.samples for side in sides), "samples")
    tried = tuple(side.tried for side in sides)
    return _verdict(claim, effect, problems, samples=samples, sampled=sampled, tried=tried, scale=scale)


def _effect(claim: Claim, sides: Sequence[Side]) -> Effect:
    """Of sides that have what it takes; ratios are compared on the logarithm."""
    into, back = (_log, _exp) if claim.compare == "ratio" else (float, float)
    seeds = shared_seeds(sides)
    if seeds:
        by_seed = [[into(side.by_seed[seed]) for seed in seeds] for side in sides]
        numbers = map(operator.sub, *by_seed) if claim.right else by_seed[0]
        return mean_over_seeds(list(numbers)).map(back)
    estimates = [side.interval.map(into) for side in sides]
    return (difference_of_independent(*estimates) if claim.right else estimates[0]).map(back)


def _judge_correlation(claim: Claim, rows: Sequence[SummaryRow], scale: str) -> Verdict:
    """The verdict on a rank correlation over subjects.

    The seeds of a subject are averaged first, and subjects are resampled whole: a subject's mean carries the noise of
    its seeds already, and to draw seeds as well would count it twice. Subjects that
    have learned too little are left out.
    """
    x, y = claim.correlate or ("", "")
    subjects = [
        subject
        for subject in dict.fromkeys(row.subject for row in rows)
        if _can_be_correlated(rows, [Side.of(rows, subject, quantity) for quantity in (x, y)])
    ]
    columns = [[Side.of(rows, subject, quantity) for subject in subjects] for quantity in (x, y)]
    sides = [side for column in columns for side in column]
    problems = [problem for side in sides for problem in side.problems()]
    if len(subjects) < FEWEST_SUBJECTS:
        problems.append(f"subjects with both {x} and {y}: {len(subjects)}, at least {FEWEST_SUBJECTS} are needed")
    effect = None
    if not problems:
        means_of_x, means_of_y = ([side.mean for side in column] for column in columns)
        effect = rank_correlation(means_of_x, means_of_y)
        if math.isnan(effect.value):
            effect, problems = None, [f"all of {x} or all of {y} are equal"]
    problems += [doubt for side in sides for doubt in side.doubts()]
    tried = tuple(_fewest(column) for column in columns)
    return _verdict(claim, effect, problems, samples=len(subjects), sampled="subjects", tried=tried, scale=scale)


def _can_be_correlated(rows: Sequence[SummaryRow], pair: Sequence[Side]) -> bool:
    return all(side.rows for side in pair) and not doubts_of_learning(rows, pair)


def _verdict(
    claim: Claim,
    effect: Effect | None,
    problems: Sequence[str],
    *,
    samples: int,
    sampled: str,
    tried: tuple[int | None, ...],
    scale: str,
) -> Verdict:
    if effect and not problems:
        word, reason = _decide(claim, effect)
    else:
        word, reason = "inconclusive", "; ".join(dict.fromkeys(problems))
    return Verdict(claim, word, effect, samples, sampled, tried, scale, reason)


def _decide(claim: Claim, effect: Effect) -> tuple[Word, str]:
    low, high = claim.on_claimed_side
    above_low = low < effect.low or low == -math.inf
    below_high = effect.high < high or high == math.inf
    if above_low and below_high:
        return "reproduced", ""
    if effect.high <= low or high <= effect.low:
        return "contradicted", ""
    return "inconclusive", "the interval lies on both sides of the margin"


def _missing(claim: Claim, scale: str, reason: str) -> Verdict:
    return Verdict(claim, "inconclusive", None, 0, "", (), scale, reason)


def _log(value: float) -> float:
    # The lower end of an interval may reach 0 where the value does not.
    return math.log(value) if value > 0 else -math.inf


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _fewest(sides: Sequence[Side]) -> int | None:
    tried = [side.tried for side in sides if side.tried is not None]
    return min(tried, default=None)
