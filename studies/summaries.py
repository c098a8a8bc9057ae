"""The summaries of the synthetic studies, read off their finished tables.

Their intervals come from resampling trials or seeds. Here they are made as wide as Student's law has it for so few: by
a factor of 1.4 for six seeds, by nothing to speak of for thousands of trials.

The finished tables of a synthetic study, as rows of a summary.

Summaries of the studies of the causes apart: heterogeneous perceptron, imbalance, and all of them.

In these studies every rule is given five learning rates, and more where the best of them lies at an end. ``tried`` is
the fewest that any rule of the study had: what was tried beyond a rate that had turned out worse helped no one.

Summaries of the studies of problems whose answer is known: rates, dimension, lower bound and quadratics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import mul
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..figures.runs import select
from ..training.run_folder import read_status
from .statistics import Effect, widened
from .summary import Row, SummaryRow, read_table


@dataclass(frozen=True)
class Finished:
    """A finished study.

    Attributes:
        name: of the study.
        folder: where its tables are.
        scale: that it was run at.
    """

    name: str
    folder: Path
    scale: str

    def setting(self, name: str) -> Any:
        """One setting of the scale.

        Raises:
            UserError: status.json cannot be read, or does not have it.
        """
        path = self.folder / "status.json"
        settings = read_status(path).get("settings", {})
        if name not in settings:
            raise UserError(f"{path}: should have settings.{name}")
        return settings[name]

    def table(self, name: str) -> list[Row]:
        """The rows of one of its tables."""
        return read_table(self.folder / f"{name}.csv")

    def row(self, subject: str, quantity: str, effect: Effect, samples: int, **more: Any) -> SummaryRow:
        """A row of its summary.

        Args:
            subject: what was measured.
            quantity: which number of it.
            effect: the number and its interval.
            samples: behind the interval.
            more: further fields of the row.
        """
        return SummaryRow(
            study=self.name,
            scale=self.scale,
            subject=subject,
            quantity=quantity,
            value=effect.value,
            ci_low=effect.low,
            ci_high=effect.high,
            samples=samples,
            **more,
        )


def estimate(row: Row, samples: int, prefix: str = "", value: str = "value") -> Effect:
    """The number in a row of a table, with its percentile interval made wide enough for so few samples.

    Args:
        row: with columns for the number and for ``ci_low`` and ``ci_high``.
        samples: that were resampled.
        prefix: of the names of both ends of the interval.
        value: the column of the number.
    """
    return widened(Effect(row[value], row[f"{prefix}ci_low"], row[f"{prefix}ci_high"]), samples)


def shifted(effect: Effect, by: float) -> Effect:
    """The effect less a number that is known exactly."""
    return effect.map(lambda number: number - by)


def heterogeneous_mlp(study: Finished) -> Iterator[SummaryRow]:
    """Final losses of SGD and Adam, and SGD's less Adam's, by contrast."""
    seeds, tuned = study.setting("seeds"), study.table("tuned")
    for row in tuned:
        subject = f"{_contrast(row)}/{row['optimizer']}"
        yield study.row(subject, "final_loss", estimate(row, seeds), seeds, **_tuning(tuned, [row]))
    for row in study.table("gaps"):
        used = _same(tuned, row, "sharpest", "contrast")
        yield study.row(_contrast(row), "gap", estimate(row, seeds), seeds, **_tuning(tuned, used))


def imbalance(study: Finished) -> Iterator[SummaryRow]:
    """SGD's and Signum's loss less Adam's, by model, exponent and frequency; and by how much it is more than at 0."""
    seeds, tuned, gaps = study.setting("seeds"), study.table("tuned"), study.table("gaps")
    cell = ("model", "batch", "exponent")
    for row in gaps:
        used = [run for run in _same(tuned, row, *cell) if run["optimizer"] in (row["optimizer"], "adam")]
        more = _tuning(tuned, used)
        subject = f"{row['model']}_{row['batch']}/s_{row['exponent']:g}/{row['optimizer']}".replace(" ", "_")
        if row["group"] == "all":
            yield study.row(subject, "gap", estimate(row, seeds), seeds, **more)
            change = estimate(row, seeds, prefix="change_", value="change")
            yield study.row(subject, "gap_change", change, seeds, **more)
        else:
            groups = {other["group"] for other in _same(gaps, row, *cell)} - {"all"}
            names = {min(groups): "most_frequent", max(groups): "rarest"}
            name = names.get(row["group"], f"group_{row['group']}")
            yield study.row(f"{subject}/{name}", "gap", estimate(row, seeds), seeds, **more)


def causes(study: Finished) -> Iterator[SummaryRow]:
    """SGD's loss less Adam's in each cell, and the effects of the causes on it."""
    seeds, tuned = study.setting("seeds"), study.table("tuned")
    for row in study.table("cells"):
        subject = f"{row['noise']}/contrast_{row['contrast']:g}/exponent_{row['exponent']:g}"
        used = _same(tuned, row, "noise", "contrast", "exponent")
        yield study.row(subject, "gap", estimate(row, seeds), seeds, **_tuning(tuned, used))
    for row in study.table("effects"):
        subject = row["effect"].replace(" ", "_")
        yield study.row(subject, "effect", estimate(row, seeds), seeds, **_tuning(tuned, tuned))


def _same(rows: list[Row], like: Row, *columns: str) -> list[Row]:
    return select(rows, **{column: like[column] for column in columns})


def _tuning(tuned: list[Row], used: list[Row]) -> dict[str, Any]:
    return {
        "tried": min(row["rates"] for row in tuned),
        "at_edge": any(row["at_edge"] == "True" for row in used),
        "unit": "nats",
    }


def _contrast(row: Row) -> str:
    return "none" if row["contrast"] == 1 else f"{row['sharpest']}_{row['contrast']:g}"


def clipping_rates(study: Finished) -> Iterator[SummaryRow]:
    """Powers of K, the same less theory's, and the errors at the last K, by problem, α and rule."""
    for row in study.table("slopes"):
        samples = _trials(study, row)
        power = estimate(row, samples)
        yield study.row(_rule(row), f"{row['statistic']}_power", power, samples)
        yield study.row(_rule(row), f"{row['statistic']}_power_less_theory", shifted(power, row["theory"]), samples)
    for row in _last_step(study.table("errors")):
        samples = _trials(study, row)
        yield study.row(_rule(row), f"final_{row['statistic']}", estimate(row, samples), samples)


def _rule(row: Row) -> str:
    return f"{row['problem']}_{row['alpha']:g}/{row['rule']}"


def _trials(study: Finished, row: Row) -> int:
    return int(study.setting("trials")) // {"ten_coordinates": 10, "non_convex": 4}.get(row["problem"], 1)


def dimension(study: Finished) -> Iterator[SummaryRow]:
    """The power of d with which GClip's error over CClip's grows, and the same less theory's."""
    factors, ratios = study.setting("factors"), study.table("ratios")
    for row in study.table("slopes"):
        points = [ratio for ratio in ratios if all(ratio[name] == row[name] for name in ("alpha", "thresholds"))]
        best = {point[name] for point in points for name in ("gclip_factor", "cclip_factor")}
        tuning = {"tried": len(factors), "at_edge": bool({min(factors), max(factors)} & best)}
        more = tuning if row["thresholds"] == "best" else {}
        # The largest problems have the fewest trials, and weigh most in the slope.
        samples = min(point["trials"] for point in points)
        subject, power = f"alpha_{row['alpha']:g}/{row['thresholds']}", estimate(row, samples, value="slope")
        yield study.row(subject, "power_of_d", power, samples, **more)
        yield study.row(subject, "power_of_d_less_theory", shifted(power, row["theory"]), samples, **more)


def lower_bound(study: Finished) -> Iterator[SummaryRow]:
    """Powers of K, the same less the bound's, and the errors at the last K over the bound, by α and rule."""
    trials = study.setting("trials")
    for row in study.table("slopes"):
        subject, power = f"alpha_{row['alpha']:g}/{row['rule']}", estimate(row, trials)
        yield study.row(subject, "power", power, trials)
        yield study.row(subject, "power_less_bound", shifted(power, row["bound"]), trials)
    for row in _last_step(study.table("errors")):
        over = estimate(row, trials).map(partial(mul, 1 / row["bound"]))
        yield study.row(f"alpha_{row['alpha']:g}/{row['rule']}", "error_over_bound", over, trials)


def quadratics(study: Finished) -> Iterator[SummaryRow]:
    """Median iterations by case and method, and by case how often the theorem's r lies within its bound."""
    trials = study.setting("trials")
    for row in study.table("iterations"):
        tuning = {"tried": row["settings"], "at_edge": row["at_edge"] == "True"}
        median = estimate(row, trials, value="median")
        yield study.row(f"{row['case']}/{row['method']}", "iterations", median, trials, **tuning)
    for row in study.table("constants"):
        share = _share(row["share_of_r_within_bound"], trials)
        yield study.row(row["case"], "share_of_r_within_bound", share, trials)


def _share(share: float, trials: int) -> Effect:
    """A share of the trials with the interval of Clopper and Pearson."""
    from scipy.stats import binomtest

    interval = binomtest(round(share * trials), trials).proportion_ci(0.95)
    return Effect(share, float(interval.low), float(interval.high))


def _last_step(rows: list[Row]) -> list[Row]:
    last = max(row["steps"] for row in rows)
    return [row for row in rows if row["steps"] == last]


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
