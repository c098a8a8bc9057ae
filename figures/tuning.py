"""Runs as a search for each optimizer's best setting: which of them may be compared, and in what they differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..configs.schema import Experiment
from ..errors import UserError
from ..training.run_folder import FINISHED
from .runs import Group, Run
from .tried import Comparison, Rule, Setting

UNCOMPARED: dict[str, Any] = {
    "seed": True,
    "optimizer": True,
    "noise": True,
    "hessian": True,
    "training": {"device", "workers", "log_every", "eval_every", "checkpoint_every", "keep_checkpoints"},
}
"""Keys that may differ between runs whose final evaluation losses are compared."""


def compare(runs: Iterable[Run]) -> list[Comparison]:
    """The finished runs, gathered into what may be compared.

    Raises:
        UserError: no run is finished.
    """
    tasks: dict[str, list[Run]] = {}
    for run in runs:
        if is_finished(run):
            tasks.setdefault(json.dumps(_comparable(run.experiment), sort_keys=True), []).append(run)
    if not tasks:
        raise UserError("none of these runs is finished; the same `whyadam train` or `whyadam sweep` line goes on")
    keys = [_flat(json.loads(task)) for task in tasks]
    labels = [
        " ".join([task["name"], *_describe(different)])
        for task, different in zip(keys, _differences(keys), strict=True)
    ]
    return [Comparison(label, _rules(members)) for label, members in zip(labels, tasks.values(), strict=True)]


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
