"""Where a diagnosis lies among the networks of the study ``blocks_and_gap``, and what such values meant there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from ...errors import UserError
from ..verdicts.effects import Effect, rank_correlation
from ..verdicts.judging import FEWEST_SUBJECTS
from ..verdicts.summary import read_summary

SHIPPED = Path(__file__).parents[2] / "docs" / "summaries" / "blocks_and_gap.quick.csv"

GAP = "gap"
"""Quantity of the summary: how much higher SGD ends than Adam, over how far Adam came."""

BySubject = Mapping[str, Sequence[float]]
"""Values over seeds by network."""


@dataclass(frozen=True)
class Networks:
    """Networks that were measured at the start and trained with SGD and with Adam.

    Attributes:
        study: where.
        scale: how large the study was.
        quantities: by the name of the quantity, that of the network: one value a seed.
        at_edge: those for which the best learning rate of SGD or Adam lies at the edge of what was tried.
    """

    study: str
    scale: str
    quantities: Mapping[str, BySubject]
    at_edge: frozenset[str] = frozenset()

    @property
    def gap(self) -> BySubject:
        """How far SGD ends above Adam, by network; of those whose runs did not diverge."""
        return _finite(self.quantities[GAP])

    def measured(self, quantity: str) -> BySubject:
        """A quantity by network, of those that have a gap too."""
        gap = self.gap
        return {name: of for name, of in _finite(self.quantities.get(quantity, {})).items() if name in gap}


@dataclass(frozen=True)
class Comparison:
    """One measure of a diagnosis beside the same of the networks.

    Attributes:
        measure: its name.
        value: of the diagnosis.
        lowest: the lowest mean over seeds of a network; None if no network has the measure.
        highest: the highest of them.
        networks: how many have the measure.
        below: how many of them have a lower value than the diagnosis.
        correlation: Spearman's, of the measure and the gap over the networks; None if they are too few or all equal.
    """

    measure: str
    value: float
    lowest: float | None
    highest: float | None
    networks: int
    below: int
    correlation: Effect | None

    @property
    def predicts(self) -> bool:
        """Whether the interval of the correlation excludes 0."""
        return self.correlation is not None and not self.correlation.low <= 0 <= self.correlation.high

    def sentence(self) -> str:
        """What the value meant in the study, no more than the numbers say."""
        if self.lowest is None or self.highest is None:
            return "the study has no network with this measure."
        place = f"{self.value:.3g} is above {self.below} of {self.networks} networks"
        if self.correlation is None:
            return f"{place}; too few networks, or all alike: nothing is known of what it means."
        effect = self.correlation
        number = f"rank correlation with the gap {effect.value:+.2f} ({effect.low:+.2f} to {effect.high:+.2f})"
        if not self.predicts:
            return f"{place}; it did not predict the gap: {number}, and the interval includes 0."
        size = "larger" if effect.value > 0 else "smaller"
        went = f"{place}; networks with a larger value had a {size} gap: {number}."
        if not self.lowest <= self.value <= self.highest:
            outside = f"outside their range ({self.lowest:.3g} to {self.highest:.3g})"
            return f"{went} Yours lies {outside}, where nothing is known."
        return went


def read_networks(path: Path = SHIPPED) -> Networks:
    """The networks of a finished study.

    Args:
        path: its summary, with the quantity ``gap``.

    Raises:
        UserError: it cannot be read, or is of another study.
    """
    rows = read_summary(path)
    quantities: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        quantities.setdefault(row.quantity, {}).setdefault(row.subject, []).append(row.value)
    if GAP not in quantities:
        raise UserError(f"{path}: has no quantity {GAP}; should be the summary of the study blocks_and_gap")
    at_edge = frozenset(row.subject for row in rows if row.quantity == GAP and row.at_edge)
    return Networks(rows[0].study, rows[0].scale, quantities, at_edge)


def compare(values: Mapping[str, float], networks: Networks) -> list[Comparison]:
    """Each measure of a diagnosis beside the networks'."""
    return [_compare(measure, value, networks) for measure, value in values.items()]


def uncertainty(networks: Networks, measures: int) -> list[str]:
    """Sentences on how little the comparison is worth."""
    gaps = [mean(of_seeds) for of_seeds in networks.gap.values()]
    above = sum(gap > 0 for gap in gaps)
    sentences = [
        f"The study {networks.study} at scale {networks.scale} trained {len(gaps)} networks with SGD and with Adam, "
        "each at the best learning rate tried; the gap is (SGD - Adam) / (start - Adam) in evaluation loss, "
        f"{min(gaps):+.2f} to {max(gaps):+.2f}, above 0 in {above}.",
        "Tails depend on the batch size, distances on examples, probes and steps; they compare best with 16 to 64 "
        "examples a batch, 8 for the curvature, and the default probes and steps.",
        f"With {len(gaps)} networks only a strong relation can show, and with {measures} measures one interval may "
        "exclude 0 by chance. This is no forecast for your network: to know, train it with both.",
    ]
    if uncertain := sorted(networks.at_edge & networks.gap.keys()):
        sentences.insert(
            1,
            f"For {', '.join(uncertain)} the best rate lay at the edge of what was tried: a wider search may change "
            "their gap.",
        )
    return sentences


def _compare(measure: str, value: float, networks: Networks) -> Comparison:
    measured = networks.measured(measure)
    means = {network: mean(of_seeds) for network, of_seeds in measured.items()}
    correlation = None
    if len(means) >= FEWEST_SUBJECTS:
        correlation = rank_correlation(list(means.values()), [mean(networks.gap[network]) for network in means])
    return Comparison(
        measure=measure,
        value=value,
        lowest=min(means.values(), default=None),
        highest=max(means.values(), default=None),
        networks=len(means),
        below=sum(other < value for other in means.values()),
        correlation=correlation if correlation is not None and math.isfinite(correlation.value) else None,
    )


def _finite(by_subject: BySubject) -> dict[str, Sequence[float]]:
    return {subject: values for subject, values in by_subject.items() if all(map(math.isfinite, values))}
