"""Summaries of the studies of problems whose answer is known: rates, dimension, lower bound and quadratics."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from operator import mul

from ..csv_tables import Row
from .effects import Effect
from .finished import Finished, estimate, shifted
from .summary import SummaryRow


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
