"""A diagnosis beside the networks of the study ``blocks_and_gap``: sentences, tables, JSON, panels of a figure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

from pydantic_core import to_json

from ...errors import UserError
from ...figures.predictors import Panel
from ...figures.tables import aligned
from ..judging import FEWEST_SUBJECTS
from ..statistics import Effect, rank_correlation
from ..summary import read_summary
from .measuring import Diagnosis, Plan

SHIPPED = Path(__file__).parents[2] / "docs" / "summaries" / "blocks_and_gap.quick.csv"

GAP = "gap"
"""Quantity of the summary: (SGD - Adam) / (start - Adam) in evaluation loss."""

BySubject = Mapping[str, Sequence[float]]
"""Values over seeds by network."""


@dataclass(frozen=True)
class Networks:
    """Networks that were measured before training and trained with SGD and with Adam.

    Attributes:
        study: its name.
        scale: of the study.
        quantities: by quantity and network, one value per seed.
        at_edge: networks whose best learning rate, of SGD or Adam, lies at the edge of the grid.
    """

    study: str
    scale: str
    quantities: Mapping[str, BySubject]
    at_edge: frozenset[str] = frozenset()

    @property
    def gap(self) -> BySubject:
        """The gap by network, without networks with a diverged run."""
        return _finite_values(self.quantities[GAP])

    def measured(self, quantity: str) -> BySubject:
        """A quantity by network, of those that have a gap."""
        gap = self.gap
        return {name: of for name, of in _finite_values(self.quantities.get(quantity, {})).items() if name in gap}


@dataclass(frozen=True)
class Comparison:
    """One measure of a diagnosis beside that of the networks.

    Attributes:
        measure: its name.
        value: of the diagnosis.
        lowest: the lowest mean over seeds among the networks; None if no network has the measure.
        highest: the highest.
        networks: number of networks with the measure.
        below: number of them with a lower value than the diagnosis.
        correlation: Spearman's, of measure and gap over the networks; None if there are too few or all are equal.
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
        """What the value meant in the study."""
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
        UserError: it cannot be read, or belongs to another study.
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
    """Compare each measure of a diagnosis with the networks."""
    return [_compare(measure, value, networks) for measure, value in values.items()]


def uncertainty(networks: Networks, measures: int) -> list[str]:
    """Sentences on the limits of the comparison."""
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


def _finite_values(by_subject: BySubject) -> dict[str, Sequence[float]]:
    return {subject: values for subject, values in by_subject.items() if all(map(math.isfinite, values))}


LABELS = {
    "norm_tail0": "tail index of noise norms",
    "coordinate_tail0": "tail index of single coordinates",
    "js0": "JS0, sigma 1 %",
    "js0_absolute": "JS0, sigma sqrt(1e-5)",
    "scale_free_js0": "scale-free JS0, sigma 1 %",
    "gradient_heterogeneity": "gradient heterogeneity",
}
"""Labels in tables, by quantity of the study."""

COMPARED = LABELS | {
    "norm_tail0": "norm tail over Gaussian",
    "coordinate_tail0": "coordinate tail over Gaussian",
}
"""Labels of comparisons: a tail index is divided by the middle of its Gaussian control."""


def describe_plan(plan: Plan) -> str:
    """The plan in one line."""
    return (
        f"planned: up to {plan.gradients} gradients of mini-batches, and {plan.products} Hessian products in "
        f"{len(plan.blocks)} blocks ({plan.effort.probes} probes of {plan.effort.steps} steps each)"
    )


def describe_cost(diagnosis: Diagnosis) -> str:
    """The time it took, in one line."""
    noise, curvature = diagnosis.seconds["noise"], diagnosis.seconds["curvature"]
    return f"took {noise:.0f} s for the gradients and {curvature:.0f} s for the Hessian products"


def measured_table(diagnosis: Diagnosis) -> str:
    """Each measure beside its control or noise floor."""
    return aligned(("measure", "value", "to compare with", "verdict"), _measured(diagnosis))


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """Each measure beside the networks of the study."""
    columns = ("measure", "yours", "networks", "lower / all", "rank correlation with the gap (95 %)", "predicts")
    return aligned(columns, map(_compared, comparisons))


def sentences(diagnosis: Diagnosis, comparisons: Sequence[Comparison]) -> Iterator[str]:
    """What each value meant in the study, and which values are not above their noise."""
    for comparison in comparisons:
        yield f"{COMPARED[comparison.measure]}: {comparison.sentence()}"
    for name, distance in diagnosis.distances.items():
        if not distance.value > distance.noise_floor:
            yield f"{LABELS[name]} does not exceed its noise floor: give more --probes before reading anything into it."
    if diagnosis.batch_norm:
        yield (
            f"BatchNorm was measured with {diagnosis.batch_norm} statistics; a study made with running ones, in which "
            "signals die out before training, is no comparison for such a network's curvature."
        )
    if diagnosis.left_out:
        yield f"{diagnosis.left_out}."
    if diagnosis.imbalance is not None:
        yield "class imbalance: no measure of this study; docs/diagnose.md says what it did where it alone was changed."


def panels(diagnosis: Diagnosis, comparisons: Sequence[Comparison], networks: Networks) -> list[Panel]:
    """One panel per comparison."""
    floors = {name: distance.noise_floor for name, distance in diagnosis.distances.items()}
    return [
        Panel(
            label=COMPARED[one.measure],
            title=f"{one.networks} networks" + (f", rank correlation {_interval(one)}" if one.correlation else ""),
            value=one.value,
            noise_floor=floors.get(one.measure),
            others=networks.measured(one.measure),
        )
        for one in comparisons
    ]


def as_json(diagnosis: Diagnosis, comparisons: Sequence[Comparison], words: Sequence[str]) -> bytes:
    """All results as JSON; NaN and infinity become null."""
    plan = diagnosis.plan
    found = {
        "name": diagnosis.name,
        "batches": plan.batches,
        "steps": plan.effort.steps,
        "probes": plan.effort.probes,
        "blocks": [block.name for block in plan.blocks],
        "cost": {
            "gradients_at_most": plan.gradients,
            "hessian_products": plan.products,
            "seconds": diagnosis.seconds,
        },
        "batch_norm": diagnosis.batch_norm,
        "batches_left_out": diagnosis.left_out or None,
        "noise_verdicts": dict(diagnosis.verdicts),
        "tails": {name: asdict(tail) | {"over_control": tail.over_control} for name, tail in diagnosis.tails.items()},
        "distances": diagnosis.distances,
        "gradient_heterogeneity": diagnosis.gradient_heterogeneity,
        "imbalance": diagnosis.imbalance,
        "comparisons": [asdict(one) | {"predicts": one.predicts} for one in comparisons],
        "in_words": words,
    }
    return to_json(found, indent=2, inf_nan_mode="null") + b"\n"


def _measured(diagnosis: Diagnosis) -> Iterator[tuple[str, str, str, str]]:
    for name, tail in diagnosis.tails.items():
        control = f"{tail.control_low:.3g} to {tail.control_high:.3g} of Gaussian noise"
        yield LABELS[name], f"{tail.index:.3g}", control, tail.verdict
    for family, verdict in diagnosis.verdicts.items():
        yield f"noise: {family.replace('_', ' ')}", "", "Gaussian noise, the four families together", verdict
    for name, distance in diagnosis.distances.items():
        verdict = "above noise" if distance.value > distance.noise_floor else "not above noise"
        yield LABELS[name], f"{distance.value:.3g}", f"{distance.noise_floor:.3g} noise floor", verdict
    if diagnosis.gradient_heterogeneity is not None:
        yield LABELS["gradient_heterogeneity"], f"{diagnosis.gradient_heterogeneity:.3g}", "0 if equal", ""
    if diagnosis.imbalance is None:
        yield "class imbalance", "unknown", "the batches show no labels", ""
    else:
        imbalance = diagnosis.imbalance
        seen = f"1 if balanced; {imbalance.labels} labels, {imbalance.classes} classes"
        yield "label entropy over its maximum", f"{imbalance.relative_entropy:.3g}", seen, ""
        yield "classes that hold the rarest half", f"{imbalance.rarest_half:.0%}", "50% if balanced", ""


def _compared(comparison: Comparison) -> tuple[str, ...]:
    label, value = COMPARED[comparison.measure], f"{comparison.value:.3g}"
    if comparison.lowest is None or comparison.highest is None:
        return label, value, "none", "", "", ""
    known = comparison.correlation is not None
    return (
        label,
        value,
        f"{comparison.lowest:.3g} to {comparison.highest:.3g}",
        f"{comparison.below} / {comparison.networks}",
        _interval(comparison),
        ("yes" if comparison.predicts else "no") if known else "",
    )


def _interval(comparison: Comparison) -> str:
    effect = comparison.correlation
    return "" if effect is None else f"{effect.value:+.2f} ({effect.low:+.2f} to {effect.high:+.2f})"
