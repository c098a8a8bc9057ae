"""The summaries of the synthetic studies, read off their finished tables.

Their intervals come from resampling trials or seeds. Here they are made as wide as Student's law has it for so few: by
a factor of 1.4 for six seeds, by nothing to speak of for thousands of trials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .finished import Finished
from .summaries_of_causes import causes, heterogeneous_mlp, imbalance
from .summaries_of_theory import clipping_rates, dimension, lower_bound, quadratics
from .summary import SummaryRow

SUMMARIES: dict[str, Callable[[Finished], Iterator[SummaryRow]]] = {
    "clipping_rates": clipping_rates,
    "dimension": dimension,
    "lower_bound": lower_bound,
    "quadratics": quadratics,
    "heterogeneous_mlp": heterogeneous_mlp,
    "imbalance": imbalance,
    "causes": causes,
}


def summary(study: str, folder: Path, scale: str) -> list[SummaryRow]:
    """The summary of one of the studies in ``SUMMARIES``.

    Args:
        study: its name.
        folder: where it has finished.
        scale: that it was run at.
    """
    return list(SUMMARIES[study](Finished(study, folder, scale)))
