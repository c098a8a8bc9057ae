"""Runs as a search for each optimizer's best setting: what was tried, what is best, as tables and as pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ..configs.schema import Experiment
from ..errors import UserError
from ..files import write_csv
from ..grid import Best, best_point
from ..training.run_folder import FINISHED
from .runs import Group, Run
from .style import OPTIMIZER_COLORS, OPTIMIZER_LABELS, OTHER_COLOR, new_figure, save_figure
from .tables import aligned, loss_cell

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Setting:
    """An optimizer at one setting, over its seeds.

    Attributes:
        group: the runs.
        varied: the keys in which the settings of its optimizer differ, the learning rate first.
    """

    group: Group
    varied: Mapping[str, Any]

    @property
    def losses(self) -> list[float]:
        """Final evaluation loss of each run, in nats; infinite where it diverged."""
        return [final_loss(run) for run in self.group.runs]

    @property
    def median(self) -> float:
        """Median of the losses."""
        return median(self.losses)

    @property
    def seeds(self) -> frozenset[int]:
        """The seeds of its runs."""
        return frozenset(run.experiment.seed for run in self.group.runs)

    def describe(self) -> str:
        """The varied keys with their values."""
        return ", ".join(
            f"{key} {value:g}" if _is_number(value) else f"{key} {value}" for key, value in self.varied.items()
        )


@dataclass(frozen=True)
class Rule:
    """All settings of one optimizer that were tried, in order of the learning rate."""

    name: str
    settings: tuple[Setting, ...]

    @property
    def best(self) -> Setting:
        """The setting with the lowest median loss."""
        return self.settings[self._choice.index]

    @property
    def edges(self) -> tuple[str, ...]:
        """The keys in which the best setting lies at the edge of what was tried; see ``grid.best_point``."""
        return self._choice.edges

    @cached_property
    def _choice(self) -> Best:
        return best_point([setting.varied for setting in self.settings], [setting.median for setting in self.settings])

    def warnings(self) -> Iterator[str]:
        """Why its best setting may not be its best, a line each."""
        if len(self.settings) == 1:
            yield f"{self.name} has one setting, nothing was tuned"
        elif self.best.median == inf:
            yield f"{self.name} has no setting at which most seeds ended"
        else:
            for key in self.edges:
                best = f"the best {key} of {self.name}, {self.best.varied[key]:g},"
                yield f"{best} lies at the edge of its grid: one beyond might be better"


@dataclass(frozen=True)
class Comparison:
    """Runs that differ in nothing but their optimizer, its settings and the seed.

    Attributes:
        label: name of the config, and what else differs from the other comparisons.
        rules: by name, in alphabetical order.
        unfinished: how many runs of the same kind have not ended, and are left out.
    """

    label: str
    rules: tuple[Rule, ...]
    unfinished: int = 0

    @property
    def experiment(self) -> Experiment:
        """The config of one of its runs."""
        return self.rules[0].settings[0].group.experiment

    def warnings(self) -> Iterator[str]:
        """What stands against comparing the optimizers at their best settings, a line each."""
        for rule in self.rules:
            yield from (f"{self.label}: {warning}" for warning in rule.warnings())
        tried = {rule.name: len(rule.settings) for rule in self.rules}
        if len(set(tried.values())) > 1:
            counts = ", ".join(f"{name} {count}" for name, count in tried.items())
            yield f"{self.label}: unequal grids, the number of settings tried is {counts}"
        seeds = {setting.seeds for rule in self.rules for setting in rule.settings}
        if len(seeds) > 1:
            given = " or ".join(sorted(",".join(map(str, sorted(some))) for some in seeds))
            yield f"{self.label}: unequal grids, the seeds of a setting are {given}"


def all_warnings(runs: Sequence[Run], comparisons: Iterable[Comparison]) -> Iterator[str]:
    """What stands against comparing these runs, a line each: those that are left out, and what the comparisons say."""
    if unfinished := sum(not is_finished(run) for run in runs):
        yield f"{unfinished} of {len(runs)} runs are not finished and left out"
    for comparison in comparisons:
        yield from comparison.warnings()


def final_loss(run: Run) -> float:
    """A finished run's final evaluation loss in nats; infinite where it diverged."""
    loss = run.status.get("last_eval_loss")
    return float(loss) if run.status["state"] == "done" and loss is not None and isfinite(loss) else inf


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


UNCOMPARED: dict[str, Any] = {
    "seed": True,
    "optimizer": True,
    "noise": True,
    "hessian": True,
    "training": {"device", "workers", "log_every", "eval_every", "checkpoint_every", "keep_checkpoints"},
}
"""Keys that may differ between runs whose final evaluation losses are compared."""


def compare(runs: Iterable[Run]) -> list[Comparison]:
    """The finished runs, gathered into what may be compared; of the others it is said how many there are.

    Raises:
        UserError: no run is finished.
    """
    tasks: dict[str, list[Run]] = {}
    unfinished: Counter[str] = Counter()
    for run in runs:
        task = json.dumps(_comparable(run.experiment), sort_keys=True)
        if is_finished(run):
            tasks.setdefault(task, []).append(run)
        else:
            unfinished[task] += 1
    if not tasks:
        raise UserError(
            "none of these runs is finished; the same `whyadam train` or `whyadam sweep` line continues them"
        )
    keys = [_flat(json.loads(task)) for task in tasks]
    labels = [
        " ".join([task["name"], *_describe(different)])
        for task, different in zip(keys, _differences(keys), strict=True)
    ]
    return [
        Comparison(label, _rules(members), unfinished[task])
        for label, (task, members) in zip(labels, tasks.items(), strict=True)
    ]


def _left_out(unfinished: int) -> str:
    return f"{unfinished} unfinished run{'s are' if unfinished > 1 else ' is'} left out"


def is_finished(run: Run) -> bool:
    """Whether a run has ended in a result."""
    return run.status.get("state") in FINISHED


def _rules(runs: Sequence[Run]) -> tuple[Rule, ...]:
    names = sorted({run.experiment.optimizer.name for run in runs})
    return tuple(
        Rule(name, _settings([run for run in runs if run.experiment.optimizer.name == name])) for name in names
    )


def _settings(runs: Sequence[Run]) -> tuple[Setting, ...]:
    """The settings of one optimizer."""
    # By seed: two runs with and without measurements are the same run here.
    by_setting: dict[str, dict[int, Run]] = {}
    for run in runs:
        key = json.dumps(run.experiment.optimizer.model_dump(mode="json"), sort_keys=True)
        by_setting.setdefault(key, {})[run.experiment.seed] = run
    optimizers = [_flat(json.loads(key)) for key in by_setting]
    settings = []
    for members, optimizer, different in zip(by_setting.values(), optimizers, _differences(optimizers), strict=True):
        rate = {"lr": optimizer["lr"]} if "lr" in optimizer else {}
        settings.append(Setting(Group(tuple(members.values())), rate | different))
    return tuple(sorted(settings, key=lambda setting: (setting.group.lr or 0, setting.describe())))


def _comparable(experiment: Experiment) -> dict[str, Any]:
    return experiment.model_dump(mode="json", exclude=UNCOMPARED)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": deeper for inner, deeper in _flat(value).items()}
        else:
            flat[key] = value
    return flat


def _differences(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each group the keys whose value is not the same in all of them."""
    keys = dict.fromkeys(key for group in groups for key in group)
    different = [key for key in keys if any(group.get(key) != groups[0].get(key) for group in groups)]
    return [{key: group.get(key) for key in different} for group in groups]


def _describe(different: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in different.items() if key != "name" and value is not None]


COLUMNS = ("optimizer", "setting", "seeds", "median eval loss", "range", "")


def tuning_table(comparisons: Sequence[Comparison]) -> str:
    """A table per comparison: one line per setting, with a mark at the best of each optimizer."""
    return "\n\n".join(f"{comparison.label}\n{aligned(COLUMNS, _lines(comparison))}" for comparison in comparisons)


def write_tuning(comparisons: Sequence[Comparison], path: Path) -> Path:
    """Write one row per setting as CSV; a loss that is infinite stands for a diverged run."""
    write_csv(path, [row for comparison in comparisons for row in _rows(comparison)])
    return path


def _lines(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    for rule in comparison.rules:
        for setting in rule.settings:
            finite = [loss for loss in setting.losses if loss < inf]
            spread = f"{min(finite):.4f} to {max(finite):.4f}" if len(finite) > 1 else ""
            yield (
                rule.name,
                setting.describe(),
                str(len(setting.losses)),
                loss_cell(setting.losses),
                spread,
                _mark(rule, setting),
            )


def _mark(rule: Rule, setting: Setting) -> str:
    if setting is not rule.best or setting.median == inf:
        return ""
    return "best, at the edge of the grid" if rule.edges else "best"


def _rows(comparison: Comparison) -> Iterator[dict[str, object]]:
    experiment = comparison.experiment
    for rule in comparison.rules:
        for setting in rule.settings:
            losses = setting.losses
            yield {
                "runs": comparison.label,
                "model": experiment.model.name,
                "data": experiment.data.name,
                "optimizer": rule.name,
                "lr": setting.varied.get("lr"),
                "setting": setting.describe(),
                "seeds": len(losses),
                "diverged": losses.count(inf),
                "median_loss": setting.median,
                "lowest_loss": min(losses),
                "highest_loss": max(losses),
                "best": str(setting is rule.best).lower(),
                "at_edge": str(bool(rule.edges)).lower() if setting is rule.best else "",
                "tried": len(rule.settings),
            }


TOP = 0.97
"""Where the marks of diverged settings stand, as a share of the panel's height."""


def draw_sensitivity(comparisons: Sequence[Comparison], out: Path) -> list[Path]:
    """Draw a panel per comparison, a line per optimizer: the median over seeds, with a band from the lowest to highest.

    Where an optimizer has several settings of one learning rate, the best of them is drawn. The panels end at the loss
    before the first step, where some setting ends below it: a triangle at the top stands for a higher one, a cross for
    a setting whose median diverged. Only finished runs count; the title says how many others there are.

    Returns:
        PNG, PDF and SVG at ``out``, a path without ending.

    Raises:
        UserError: no optimizer has a learning rate.
    """
    # Those of the optimizers that have a learning rate, by name.
    panels = [(one, {rule.name: line for rule in one.rules if (line := _line(rule))}) for one in comparisons]
    shown = [(comparison, lines) for comparison, lines in panels if lines]
    if not shown:
        raise UserError("no optimizer of these runs has a learning rate")
    names = {name for _, lines in shown for name in lines}
    figure = new_figure(columns=len(shown), legend_entries=len(names))
    handles: dict[str, Artist] = {}
    for axes, (comparison, lines) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        at_start = _loss_at_start(comparison)
        medians = [setting.median for line in lines.values() for setting in line.values()]
        highest = at_start if min(medians) < at_start else inf
        for name, line in lines.items():
            _draw_line(axes, name, line, highest)
        if highest == inf > at_start:
            axes.axhline(at_start, color=OTHER_COLOR, linestyle=":", linewidth=1, label="before the first step")
        title = [comparison.label, *([_left_out(comparison.unfinished)] if comparison.unfinished else [])]
        _finish(axes, "\n".join(title), highest)
        finite = [median for median in medians if median < inf]
        if highest == inf and finite and 0 < 10 * min(finite) < max(finite):
            axes.set_yscale("log")
        handles |= {str(handle.get_label()): handle for handle in axes.get_legend_handles_labels()[0]}
    figure.legend(handles=list(handles.values()), loc="outside right upper")
    return save_figure(figure, out)


def _line(rule: Rule) -> dict[float, Setting]:
    """The best setting of each learning rate, in ascending order."""
    best: dict[float, Setting] = {}
    for setting in rule.settings:
        rate = setting.group.lr
        if rate is not None and (rate not in best or setting.median < best[rate].median):
            best[rate] = setting
    return dict(sorted(best.items()))


def _draw_line(axes: Axes, name: str, line: Mapping[float, Setting], highest: float) -> None:
    color = OPTIMIZER_COLORS.get(name, OTHER_COLOR)
    rates = list(line)
    medians = [setting.median for setting in line.values()]
    # A line to an infinite value is none: matplotlib leaves it out, and the band with it.
    axes.plot(rates, medians, "o-", color=color, label=OPTIMIZER_LABELS.get(name, name))
    axes.fill_between(
        rates,
        [min(setting.losses) for setting in line.values()],
        [max(setting.losses) for setting in line.values()],
        color=color,
        alpha=0.2,
        linewidth=0,
    )
    for marker, beyond in (
        ("x", [rate for rate, loss in zip(rates, medians, strict=True) if loss == inf]),
        ("^", [rate for rate, loss in zip(rates, medians, strict=True) if highest < loss < inf]),
    ):
        axes.plot(beyond, [TOP] * len(beyond), marker, color=color, transform=axes.get_xaxis_transform())


def _finish(axes: Axes, label: str, highest: float) -> None:
    axes.set_xscale("log")
    axes.set(title=label, xlabel="learning rate", ylabel="final evaluation loss (nats)")
    if highest < inf:
        axes.set_ylim(top=highest)
    axes.grid(alpha=0.3)


def _loss_at_start(comparison: Comparison) -> float:
    """The highest evaluation loss before the first step."""
    runs = [run for rule in comparison.rules for setting in rule.settings for run in setting.group.runs]
    curves = [run.curve("eval")[1] for run in runs]
    return max((losses[0] for losses in curves if losses), default=inf)
