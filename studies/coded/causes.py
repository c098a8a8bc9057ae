"""Three causes in a factorial design: noise tail, block heterogeneity and class imbalance, each on or off.

Two papers and later work explain Adam's advantage with heavy-tailed noise (Zhang et al. 2020), with curvatures that
differ between blocks (Zhang et al. 2024) and with rare classes (Kunstner et al. 2024). Here one small network has a
knob for each, and no knob moves what another one sets:

- noise: gradients of all examples, without noise, with Gaussian or with α-stable noise of the same median norm
  relative to each layer's gradient;
- contrast: the layers' curvatures, at the same function and, since the noise is relative to each layer, the same noise;
- exponent: the numbers of examples of the classes, at the same inputs and share of wrong labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from ...data.noise_laws import AlphaStable, Gaussian, NoiseLaw
from ...figures.causes import draw_causes
from ...figures.runs import select
from ...files import Row
from ...models import MODELS
from ...progress import Track
from ...seeds import derive_seed
from ...settings import Settings
from ...synthetic.batched_training import LayerNoise, Start, Training, start
from ...synthetic.intervals import effects, with_interval
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
    zipf,
)

OPTIMIZERS = ("sgd", "adam")

LAWS: dict[str, NoiseLaw | None] = {"none": None, "gaussian": Gaussian(), "alpha_stable": AlphaStable(alpha=1.5)}

CONTRASTS: list[dict[str, tuple[float, ...]]] = [
    {"noise": (-1, 1, 0), "heavy tail": (0, -1, 1)},
    {"heterogeneity": (-1, 1)},
    {"imbalance": (-1, 1)},
]
"""Gaussian noise against none, a heavy tail against Gaussian; the large contrast against 1, the exponent against 0."""


class Causes(Settings):
    """How much is computed.

    Attributes:
        contrast: of the heterogeneous network; 1 of the other.
        exponent: of the imbalanced classes; 0 of the others.
        ratio: median norm of the noise over the norm of the gradient, in each layer.
        hidden: widths of the hidden layers.
        classes: how many.
        examples: to train on.
        steps: of each run.
        seeds: data sets, starts and runs with each learning rate.
    """

    contrast: float = 16.0
    exponent: float = 1.0
    ratio: float = 1.0
    hidden: tuple[int, ...] = (32, 32)
    classes: int = 32
    examples: int = 512
    steps: int = 200
    seeds: int = 8

    def cells(self) -> list[Row]:
        """The columns of each cell, the last factor the fastest."""
        levels = product(LAWS, (1.0, self.contrast), (0.0, self.exponent))
        return [{"noise": noise, "contrast": contrast, "exponent": exponent} for noise, contrast, exponent in levels]


SCALES = {
    "tiny": Causes(contrast=8.0, hidden=(6,), classes=6, examples=40, steps=4, seeds=2),
    "quick": Causes(),
    "noisy": Causes(ratio=2.0),
    "paper": Causes(hidden=(128, 128), classes=256, examples=8192, steps=1000, seeds=10),
}


def tables(settings: Causes, parts: Parts, seed: int, track: Track) -> Tables:
    """All runs, the tuned rules, SGD minus Adam in each cell, and the effects on it."""
    runs: list[Row] = []
    cells = settings.cells()
    for cell in track("causes", cells, len(cells)):
        name = "-".join(f"{value:g}" if isinstance(value, float) else value for value in cell.values())
        runs += parts.rows(name, partial(_train, settings, cell, seed))
    tuned = [
        cell | {"optimizer": rule} | summary_row(select(runs, **cell, optimizer=rule), seed)
        for cell, rule in product(cells, OPTIMIZERS)
    ]
    gaps = [cell | gap_row(*_pair(runs, cell), seed) for cell in cells]
    return {"runs": runs, "tuned": tuned, "cells": gaps, "effects": effect_rows(settings, runs, seed)}


def draw(tables: Tables, folder: Path) -> None:
    """Cells and effects."""
    draw_causes(tables["cells"], tables["effects"], folder / "causes")


def summary(tables: Tables, settings: Causes, row: MakeRow) -> Iterator[SummaryRow]:
    """SGD's loss minus Adam's in each cell, and the effects of the causes on it."""
    seeds, tuned = settings.seeds, tables["tuned"]
    for cell in tables["cells"]:
        key = {column: cell[column] for column in ("noise", "contrast", "exponent")}
        subject = f"{cell['noise']}/contrast_{cell['contrast']:g}/exponent_{cell['exponent']:g}"
        yield row(subject, "gap", estimate(cell, seeds), seeds, **tuning_columns(tuned, select(tuned, **key)))
    for effect in tables["effects"]:
        subject = effect["effect"].replace(" ", "_")
        yield row(subject, "effect", estimate(effect, seeds), seeds, **tuning_columns(tuned, tuned))


def effect_rows(settings: Causes, runs: list[Row], seed: int) -> list[Row]:
    """Every effect and interaction of the factors on SGD's loss minus Adam's, paired by seed."""

    def found(samples: Tensor) -> dict[str, Tensor]:
        gaps = torch.stack([gap(*_pair(runs, cell), samples) for cell in settings.cells()])
        return effects(gaps.view(len(LAWS), 2, 2, -1), CONTRASTS)

    def row(name: str) -> Row:
        return {"effect": name} | with_interval(lambda samples: found(samples)[name], settings.seeds, seed=seed)

    return [row(name) for name in found(torch.arange(settings.seeds)[None])]


def _pair(runs: list[Row], cell: Row) -> tuple[list[Row], list[Row]]:
    """The rows of SGD and of Adam in one cell."""
    sgd, adam = (select(runs, **cell, optimizer=rule) for rule in OPTIMIZERS)
    return sgd, adam


def _train(settings: Causes, cell: Row, seed: int) -> list[Row]:
    starts = [_start(settings, cell, derive_seed(seed, "run", number)) for number in range(settings.seeds)]
    law = LAWS[cell["noise"]]
    noise = None if law is None else LayerNoise(law, settings.ratio)
    return tuned_rows(OPTIMIZERS, starts, Training(settings.steps, noise=noise), **cell)


def _start(settings: Causes, cell: Row, seed: int) -> Start:
    model = MODELS["scaled_mlp"].model_validate({"hidden": settings.hidden, "contrast": cell["contrast"]})
    data = zipf(settings.classes, settings.examples, cell["exponent"], sample=seed)
    return start(model, data, seed)
