"""Final losses by class frequency where nothing but the imbalance of the classes changes (Kunstner et al. 2024).

Inputs, noise and the number of examples are those of the data source ``zipf``; its exponent is the knob. The loss is
that of the training examples with the labels that were trained on, so it is what the rules minimise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...data.zipf import class_counts, frequency_groups
from ...figures.causes import draw_imbalance
from ...figures.runs import select
from ...files import Row
from ...models import MODELS
from ...progress import Track
from ...seeds import derive_seed
from ...settings import Settings
from ...synthetic.batched_training import Start, Training, start
from ...synthetic.intervals import with_interval
from .tuned_runs import (
    MakeRow,
    Parts,
    SummaryRow,
    Tables,
    estimate,
    gap,
    gap_row,
    summary_row,
    tuned_rows,
    tuning_columns,
    without,
    zipf,
)

OPTIMIZERS = ("sgd", "adam", "signum")

MODEL_SETTINGS = {
    "linear": MODELS["mlp"].model_validate({"hidden": ()}),
    "transformer": MODELS["vit_nano"].model_validate(
        {"n_layer": 1, "n_embd": 16, "n_inner": 32, "patch_size": 1, "attention": "eager"}
    ),
}
"""Softmax regression, and a ViT of one layer, in which a pixel is a token."""

ALL = "all"
"""In place of a group's number: all examples."""

GROUP_COLUMN = "loss_group_"
"""Before the number of a group, the name of the column of its loss."""


class Problem(Settings):
    """A model and how it is trained.

    Attributes:
        model: of ``MODEL_SETTINGS``.
        batch_size: examples per step; None for all of them.
        steps: of each run.
    """

    model: Literal["linear", "transformer"]
    batch_size: int | None
    steps: int

    @property
    def batch(self) -> str:
        """The batch size in words."""
        return "full batch" if self.batch_size is None else f"batch {self.batch_size}"

    def columns(self) -> Row:
        """What tells its rows apart from those of other problems."""
        return {"model": self.model, "batch": self.batch}


class Imbalance(Settings):
    """How much is computed.

    Attributes:
        problems: each at every exponent.
        exponents: of Zipf's law, the first one 0.
        classes: how many.
        examples: to train on.
        groups: of classes of about equally many examples.
        seeds: data sets, starts and runs with each learning rate.
    """

    problems: tuple[Problem, ...] = (
        Problem(model="linear", batch_size=None, steps=150),
        Problem(model="linear", batch_size=64, steps=150),
        Problem(model="transformer", batch_size=64, steps=200),
    )
    exponents: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5)
    classes: int = 64
    examples: int = 1024
    groups: int = 5
    seeds: int = 6


SCALES = {
    "tiny": Imbalance(
        problems=(
            Problem(model="linear", batch_size=None, steps=5),
            Problem(model="transformer", batch_size=8, steps=2),
        ),
        exponents=(0.0, 1.0),
        classes=6,
        examples=40,
        groups=2,
        seeds=2,
    ),
    "quick": Imbalance(),
    "paper": Imbalance(
        problems=tuple(
            Problem(model=model, batch_size=batch_size, steps=1000)
            for model, batch_size in product(("linear", "transformer"), (None, 64))
        ),
        classes=512,
        examples=16384,
        groups=10,
        seeds=8,
    ),
}


def tables(settings: Imbalance, parts: Parts, seed: int, track: Track) -> Tables:
    """All runs, the tuned rules, their losses by frequency, and each rule minus Adam."""
    runs: list[Row] = []
    cells = list(product(settings.problems, settings.exponents))
    for problem, exponent in track("imbalance", cells, len(cells)):
        compute = partial(_train, settings, problem, exponent, seed)
        runs += parts.rows(f"{problem.model}-{problem.batch}-{exponent:g}".replace(" ", "-"), compute)
    tuned, groups, gaps = [], [], []
    for problem, exponent, rule in product(settings.problems, settings.exponents, OPTIMIZERS):
        cell = {**problem.columns(), "exponent": exponent, "optimizer": rule}
        rows = select(runs, **cell)
        tuned.append(cell | summary_row(rows, seed))
        groups += [
            cell | {"group": group} | without(summary_row(rows, seed, column), "lr", "rates", "at_edge")
            for group, column in _groups(rows).items()
        ]
        if rule != "adam":
            gaps += _gap_rows(runs, cell, seed)
    return {"runs": runs, "tuned": tuned, "groups": groups, "gaps": gaps}


def draw(tables: Tables, folder: Path) -> None:
    """Gaps against the exponent and by frequency."""
    draw_imbalance(tables["gaps"], folder / "imbalance")


def summary(tables: Tables, settings: Imbalance, row: MakeRow) -> Iterator[SummaryRow]:
    """SGD's and Signum's loss minus Adam's, by model, exponent and frequency; and how much more it is than at 0."""
    seeds, tuned, gaps = settings.seeds, tables["tuned"], tables["gaps"]
    for one in gaps:
        cell = {column: one[column] for column in ("model", "batch", "exponent")}
        used = [run for run in select(tuned, **cell) if run["optimizer"] in (one["optimizer"], "adam")]
        more = tuning_columns(tuned, used)
        subject = f"{one['model']}_{one['batch']}/s_{one['exponent']:g}/{one['optimizer']}".replace(" ", "_")
        if one["group"] == ALL:
            yield row(subject, "gap", estimate(one, seeds), seeds, **more)
            yield row(subject, "gap_change", estimate(one, seeds, "change", "change_"), seeds, **more)
        else:
            groups = {other["group"] for other in select(gaps, **cell)} - {ALL}
            names = {min(groups): "most_frequent", max(groups): "rarest"}
            name = names.get(one["group"], f"group_{one['group']}")
            yield row(f"{subject}/{name}", "gap", estimate(one, seeds), seeds, **more)


def _train(settings: Imbalance, problem: Problem, exponent: float, seed: int) -> list[Row]:
    seeds = [derive_seed(seed, "run", number) for number in range(settings.seeds)]
    starts = [_start(settings, problem.model, exponent, own) for own in seeds]
    counts = class_counts(settings.classes, exponent, settings.examples)
    group_of_class = torch.tensor(frequency_groups(counts, settings.groups))
    group = torch.stack([group_of_class[begun.labels] for begun in starts])
    parts = {f"{GROUP_COLUMN}{number}": group == number for number in range(settings.groups)}
    cell = {**problem.columns(), "exponent": exponent}
    return tuned_rows(OPTIMIZERS, starts, Training(problem.steps, problem.batch_size), parts, **cell)


def _start(settings: Imbalance, model: str, exponent: float, seed: int) -> Start:
    return start(MODEL_SETTINGS[model], zipf(settings.classes, settings.examples, exponent, sample=seed), seed)


def _groups(rows: Sequence[Row]) -> dict[int, str]:
    """The column of each group that has examples."""
    columns = {int(name.rpartition("_")[2]): name for name in rows[0] if name.startswith(GROUP_COLUMN)}
    return {group: column for group, column in columns.items() if rows[0][column] is not None}


def _gap_rows(runs: Sequence[Row], cell: Row, seed: int) -> list[Row]:
    """The rule of a cell minus Adam, over all examples and in each group; and how much more that is than at exponent 0.

    The groups of different exponents are different classes, so the second is of all examples only.
    """
    balanced = cell | {"exponent": 0.0}
    rows, adam, balanced_rows, balanced_adam = (
        select(runs, **chosen)
        for chosen in (cell, cell | {"optimizer": "adam"}, balanced, balanced | {"optimizer": "adam"})
    )

    def change(samples: Tensor) -> Tensor:
        return gap(rows, adam, samples) - gap(balanced_rows, balanced_adam, samples)

    value, low, high = with_interval(change, len({row["seed"] for row in rows}), seed=seed).values()
    changed = {"change": value, "change_ci_low": low, "change_ci_high": high}
    found = [cell | {"group": ALL} | gap_row(rows, adam, seed) | changed]
    for group, column in _groups(rows).items():
        found.append(cell | {"group": group} | gap_row(rows, adam, seed, column) | dict.fromkeys(changed))
    return found
