"""A diagnosis in words, as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ...figures.diagnosis import Panel
from ...figures.table import aligned
from .comparison import Comparison, Networks
from .measuring import Diagnosis
from .plan import Plan

LABELS = {
    "norm_tail0": "tail index of noise norms",
    "coordinate_tail0": "tail index of single coordinates",
    "js0": "JS0, sigma 1 %",
    "js0_absolute": "JS0, sigma sqrt(1e-5)",
    "scale_free_js0": "scale-free JS0, sigma 1 %",
    "gradient_heterogeneity": "gradient heterogeneity",
}
"""What people read, by the names of the study's summary."""

COMPARED = LABELS | {
    "norm_tail0": "norm tail over Gaussian",
    "coordinate_tail0": "coordinate tail over Gaussian",
}
"""The same for what is compared: of a tail the index over the middle of its Gaussian control."""


def describe_plan(plan: Plan) -> str:
    """What will be computed, in a line."""
    return (
        f"planned: up to {plan.gradients} gradients of mini-batches, and {plan.products} Hessian products in "
        f"{len(plan.blocks)} blocks ({plan.effort.probes} probes of {plan.effort.steps} steps each)"
    )


def describe_cost(diagnosis: Diagnosis) -> str:
    """What it took, in a line."""
    noise, curvature = diagnosis.seconds["noise"], diagnosis.seconds["curvature"]
    return f"took {noise:.0f} s for the gradients and {curvature:.0f} s for the Hessian products"


def measured_table(diagnosis: Diagnosis) -> str:
    """What was measured, beside what noise alone would give."""
    return aligned(("measure", "value", "to compare with", "verdict"), _measured(diagnosis))


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """Each measure beside the networks of the study."""
    columns = ("measure", "yours", "networks", "lower / all", "rank correlation with the gap (95 %)", "predicts")
    return aligned(columns, map(_compared, comparisons))


def sentences(diagnosis: Diagnosis, comparisons: Sequence[Comparison]) -> Iterator[str]:
    """What each value meant in the study, and which values mean nothing."""
    for comparison in comparisons:
        yield f"{COMPARED[comparison.measure]}: {comparison.sentence()}"
    for name, distance in diagnosis.distances.items():
        if not distance.value > distance.noise_floor:
            yield f"{LABELS[name]} does not exceed its noise floor: give more --probes before reading anything into it."
    if diagnosis.batch_norm:
        yield (
            "BatchNorm does nothing where curvature is measured, in evaluation mode before training; "
            "signals may die out, and blocks look more unlike than they are in training."
        )
    if diagnosis.imbalance is not None:
        yield "class imbalance: no measure of this study; docs/diagnose.md says what it did where it alone was changed."


def panels(diagnosis: Diagnosis, comparisons: Sequence[Comparison], networks: Networks) -> list[Panel]:
    """What is to be drawn: a panel a measure that is compared."""
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


def as_json(diagnosis: Diagnosis, comparisons: Sequence[Comparison], words: Sequence[str]) -> dict[str, Any]:
    """All of it in plain values; what is no finite number is null."""
    plan = diagnosis.plan
    effort = {"steps": plan.effort.steps, "probes": plan.effort.probes}
    cost = {"gradients_at_most": plan.gradients, "hessian_products": plan.products, "seconds": dict(diagnosis.seconds)}
    tails = {name: {**asdict(tail), "over_control": tail.over_control} for name, tail in diagnosis.tails.items()}
    found: dict[str, Any] = {
        "name": diagnosis.name,
        "batches": plan.batches,
        **effort,
        "blocks": [block.name for block in plan.blocks],
        "cost": cost,
        "noise_verdict": diagnosis.overall,
        "tails": tails,
        "distances": {name: asdict(distance) for name, distance in diagnosis.distances.items()},
        "gradient_heterogeneity": diagnosis.gradient_heterogeneity,
        "imbalance": asdict(diagnosis.imbalance) if diagnosis.imbalance else None,
        "comparisons": [{**asdict(one), "predicts": one.predicts} for one in comparisons],
        "in_words": list(words),
    }
    finite: dict[str, Any] = _finite(found)
    return finite


def _measured(diagnosis: Diagnosis) -> Iterator[tuple[str, str, str, str]]:
    for name, tail in diagnosis.tails.items():
        control = f"{tail.control_low:.3g} to {tail.control_high:.3g} of Gaussian noise"
        yield LABELS[name], f"{tail.index:.3g}", control, tail.verdict
    yield "noise as a whole", "", "Gaussian noise, all statistics together", diagnosis.overall
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


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
