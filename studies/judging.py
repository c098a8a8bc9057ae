"""Which claims a summary bears out: a pure function of the claim and the rows.

Intervals over seeds are those at the settings that tuning chose: that other seeds might have chosen other settings is
not in them. The studies of the three causes choose anew in each bootstrap sample.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from .claims import Claim
from .statistics import Effect, difference_of_independent, mean_over_seeds, rank_correlation
from .summary import SummaryRow

FEWEST_SEEDS = 3
"""Fewer make no verdict; nor do fewer samples behind an interval."""


FEWEST_SUBJECTS = 5
"""Of a correlation."""

Word = Literal["reproduced", "contradicted", "inconclusive"]


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: which.
        verdict: ``reproduced`` where the interval lies entirely on the claimed side of the margin, ``contradicted``
            where entirely on the other, else ``inconclusive``; so too where something the verdict needs is missing.
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
    """A verdict per claim and scale at which its study was done, and one per claim whose study was not done."""
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
        reasons = [f"the summary has no {' and no '.join(absent)}", *_missing_runs(rows, sides)]
        return _missing(claim, scale, "; ".join(reasons))
    problems = [problem for side in sides for problem in side.problems()] + _problems_of_pair(sides)
    if claim.compare == "ratio" and not all(side.is_positive for side in sides):
        problems.append("a ratio needs values above 0")
    effect = None if problems else _effect(claim, sides)
    problems += [doubt for side in sides for doubt in side.doubts()] + _doubts_of_pair(sides)
    problems += _doubts_of_learning(rows, sides) + _missing_runs(rows, sides)
    seeds = _shared_seeds(sides)
    samples, sampled = (len(seeds), "seeds") if seeds else (min(side.samples for side in sides), "samples")
    tried = tuple(side.tried for side in sides)
    word, reason = _decide(claim, effect, problems)
    return Verdict(claim, word, effect, samples, sampled, tried, scale, reason)


def _effect(claim: Claim, sides: Sequence[Side]) -> Effect:
    """Of sides that have what it takes; ratios are compared on the logarithm."""
    into, back = (_log, _exp) if claim.compare == "ratio" else (float, float)
    seeds = _shared_seeds(sides)
    if seeds:
        by_seed = [[into(side.by_seed[seed]) for seed in seeds] for side in sides]
        numbers = map(operator.sub, *by_seed) if claim.right else by_seed[0]
        return mean_over_seeds(list(numbers)).map(back)
    estimates = [side.interval.map(into) for side in sides]
    return (difference_of_independent(*estimates) if claim.right else estimates[0]).map(back)


def _judge_correlation(claim: Claim, rows: Sequence[SummaryRow], scale: str) -> Verdict:
    """The verdict on a rank correlation over subjects.

    The seeds of a subject are averaged first, and subjects are resampled: a subject's mean carries the noise of its
    seeds already, and to draw seeds as well would count it twice. Subjects that have learned too little are left out.
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
    problems += [doubt for side in sides for doubt in side.doubts()] + _missing_runs(rows, sides)
    counts = [[side.tried for side in column if side.tried is not None] for column in columns]
    tried = tuple(min(count, default=None) for count in counts)
    word, reason = _decide(claim, effect, problems)
    return Verdict(claim, word, effect, len(subjects), "subjects", tried, scale, reason)


def _can_be_correlated(rows: Sequence[SummaryRow], pair: Sequence[Side]) -> bool:
    return all(side.rows for side in pair) and not _doubts_of_learning(rows, pair)


def _decide(claim: Claim, effect: Effect | None, problems: Sequence[str]) -> tuple[Word, str]:
    """The word, and why it is ``inconclusive``."""
    if effect is None or problems:
        return "inconclusive", "; ".join(dict.fromkeys(problems))
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


@dataclass(frozen=True)
class Side:
    """The rows of one quantity of one subject, in one study at one scale.

    Attributes:
        subject: whose.
        quantity: which number.
        rows: one per seed, or a single one with an interval.
    """

    subject: str
    quantity: str
    rows: tuple[SummaryRow, ...]

    @classmethod
    def of(cls, rows: Sequence[SummaryRow], subject: str, quantity: str) -> Side:
        """The rows out of ``rows`` that belong to it."""
        chosen = (row for row in rows if (row.subject, row.quantity) == (subject, quantity))
        return cls(subject, quantity, tuple(chosen))

    @property
    def name(self) -> str:
        """What a reader calls it."""
        return f"{self.quantity} of {self.subject}"

    @property
    def by_seed(self) -> dict[int, float]:
        """The values by seed; empty where the row has an interval of its own."""
        return {row.seed: row.value for row in self.rows if row.seed is not None}

    @property
    def interval(self) -> Effect:
        """The row that has an interval of its own."""
        (row,) = self.rows
        return Effect(row.value, _number(row.ci_low), _number(row.ci_high))

    @property
    def mean(self) -> float:
        """Over the seeds, or the value of the row with an interval."""
        return fmean(row.value for row in self.rows)

    @property
    def samples(self) -> int:
        """Behind the row with an interval."""
        return min(row.samples or 0 for row in self.rows)

    @property
    def tried(self) -> int | None:
        """Settings tried in tuning, the fewest where rows differ; None where nothing was tuned."""
        return min((row.tried for row in self.rows if row.tried is not None), default=None)

    @property
    def is_positive(self) -> bool:
        """Whether every value has a logarithm."""
        return all(row.value > 0 for row in self.rows)

    def problems(self) -> list[str]:
        """Why no effect can be computed."""
        found = []
        if not all(math.isfinite(row.value) for row in self.rows):
            found.append(f"{self.name} is not finite")
        if any(math.isnan(_number(end)) for row in self.rows for end in (row.ci_low, row.ci_high) if end is not None):
            found.append(f"the interval of {self.name} is not a number")
        if len({row.seed for row in self.rows}) < len(self.rows):
            found.append(f"the summary has {self.name} twice")
        elif 0 < len(self.by_seed) < len(self.rows):
            found.append(f"{self.name} has rows of seeds and a row with an interval")
        return found

    def doubts(self) -> list[str]:
        """Why the effect decides nothing, though it can be computed."""
        found = []
        if any(row.at_edge for row in self.rows):
            found.append(f"the best setting of {self.subject} lies at the edge of its grid")
        if len({row.tried for row in self.rows}) > 1:
            found.append(f"not every seed of {self.subject} had the same number of settings")
        count, counted = (len(self.by_seed), "seeds") if self.by_seed else (self.samples, "samples")
        if count < FEWEST_SEEDS:
            found.append(f"{counted} of {self.name}: {count}, at least {FEWEST_SEEDS} are needed")
        return found


def _shared_seeds(sides: Sequence[Side]) -> list[int]:
    """The seeds that all sides have, in order."""
    return sorted(set.intersection(*(set(side.by_seed) for side in sides)))


def _problems_of_pair(sides: Sequence[Side]) -> list[str]:
    """Why the sides cannot be compared with each other."""
    with_seeds = [bool(side.by_seed) for side in sides]
    if any(with_seeds) and not all(with_seeds):
        return ["one side has seeds, the other an interval"]
    if all(with_seeds) and not _shared_seeds(sides):
        return ["the sides have no seed in common"]
    return []


def _doubts_of_pair(sides: Sequence[Side]) -> list[str]:
    """Why a comparison of the sides decides nothing, though it can be computed."""
    found = []
    if len({side.tried for side in sides}) > 1:
        counts = (f"{'nothing' if side.tried is None else side.tried} for {side.subject}" for side in sides)
        found.append(f"unequal tuning: settings tried are {' and '.join(counts)}")
    if 0 < len(_shared_seeds(sides)) < min(FEWEST_SEEDS, *(len(side.by_seed) for side in sides)):
        found.append(f"seeds in common: {len(_shared_seeds(sides))}, at least {FEWEST_SEEDS} are needed")
    return found


def _number(end: float | None) -> float:
    return math.nan if end is None else end


LOSS, OF_FREQUENCIES = "final_eval_loss", "loss_of_frequencies"

CLEARLY = 0.05
"""Nats below the loss of frequencies, from which on a network has learned something: 5 % of the perplexity."""

GAPS = ("gap", "rarity_gap")
"""The quantities of a sweep that compare SGD with Adam."""

OF_TRAINING = (LOSS, "accuracy", *GAPS)
"""The quantities that compare how well networks were trained."""


def _doubts_of_learning(rows: Sequence[SummaryRow], sides: Sequence[Side]) -> list[str]:
    """Why a comparison of trained networks decides nothing, though it can be computed.

    Sides of one sweep are judged together: it is enough that one of them has learned.

    Args:
        rows: of the study at one scale.
        sides: what is compared.
    """
    compared: dict[str, list[str]] = {}
    for side in sides:
        if side.quantity in OF_TRAINING:
            compared.setdefault(side.subject.partition("/")[0], []).append(side.subject)
    doubts = []
    for sweep, subjects in compared.items():
        frequencies = Side.of(rows, sweep, OF_FREQUENCIES)
        losses = [side.mean for side in _trained(rows, sweep, subjects) if side.rows]
        if frequencies.rows and losses and not min(losses) < frequencies.mean - CLEARLY:
            doubts.append(
                f"on {sweep} too little is learned to compare: a loss of {min(losses):.2f} nats, where label "
                f"frequencies alone give {frequencies.mean:.2f}"
            )
    return doubts


def _trained(rows: Sequence[SummaryRow], sweep: str, subjects: Sequence[str]) -> list[Side]:
    """The losses of some subjects; those of SGD and Adam where the subject is their sweep."""
    arms = [arm for subject in subjects for arm in (_sgd_and_adam(sweep) if subject == sweep else [subject])]
    return [Side.of(rows, arm, LOSS) for arm in arms]


def _missing_runs(rows: Sequence[SummaryRow], sides: Sequence[Side]) -> list[str]:
    """Which runs behind the sides are missing, a line per subject and state."""
    found: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        if row.state and row.seed is not None and any(_is_behind(row.subject, side) for side in sides):
            found.setdefault((row.subject, row.state), []).append(row.seed)
    return [
        f"missing runs: {subject}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} ({state})"
        for (subject, state), seeds in found.items()
    ]


def _is_behind(run: str, side: Side) -> bool:
    if side.quantity in GAPS and run.partition("/")[0] == side.subject:
        return run in _sgd_and_adam(side.subject)
    return run == side.subject or run.startswith(f"{side.subject}/")


def _sgd_and_adam(sweep: str) -> list[str]:
    return [f"{sweep}/sgd", f"{sweep}/adam"]


def _log(value: float) -> float:
    # The lower end of an interval may reach 0 where the value does not.
    return math.log(value) if value > 0 else -math.inf


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
