"""Whether there was learning to compare: networks that know word frequencies alone say nothing of optimizers."""

from __future__ import annotations

from collections.abc import Sequence

from .sides import Side
from .summary import SummaryRow

LOSS, OF_FREQUENCIES = "final_eval_loss", "loss_of_frequencies"

CLEARLY = 0.05
"""Nats below the loss of frequencies, from which on a network has learned something: 5 % of the perplexity."""

OF_TRAINING = (LOSS, "accuracy", "gap", "rarity_gap")
"""The quantities that compare how well networks were trained."""


def doubts_of_learning(rows: Sequence[SummaryRow], sides: Sequence[Side]) -> list[str]:
    """Why a comparison of trained networks decides nothing, though it can be computed.

    Sides of one sweep are looked at together: it is enough that one of them has learned.

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
    arms = [
        arm for subject in subjects for arm in ([f"{sweep}/sgd", f"{sweep}/adam"] if subject == sweep else [subject])
    ]
    return [Side.of(rows, arm, LOSS) for arm in arms]
