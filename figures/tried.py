"""What was tried of each optimizer, what is the best of it, and how far to trust that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf
from statistics import median
from typing import Any

from ..configs.schema import Experiment
from .runs import Group, Run


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

    @cached_property
    def best(self) -> Setting:
        """The setting with the lowest median loss."""
        return min(self.settings, key=lambda setting: setting.median)

    @property
    def edges(self) -> list[str]:
        """The keys of which the best setting has the least or the largest number that was tried."""
        values = {key: [setting.varied[key] for setting in self.settings] for key in self.best.varied}
        return [key for key, value in self.best.varied.items() if is_at_edge(value, values[key])]

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
        label: name of the config, and whatever else tells it from the other comparisons.
        rules: by name, in alphabetical order.
    """

    label: str
    rules: tuple[Rule, ...]

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


def final_loss(run: Run) -> float:
    """A finished run's final evaluation loss in nats; infinite where it diverged."""
    loss = run.status.get("last_eval_loss")
    return float(loss) if run.status["state"] == "done" and loss is not None else inf


def is_at_edge(value: Any, values: Iterable[Any]) -> bool:
    """Whether ``value`` is the least or the largest of two or more different numbers."""
    numbers = {number for number in values if _is_number(number)}
    return _is_number(value) and len(numbers) > 1 and value in (min(numbers), max(numbers))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
