"""SGD and Adam on a perceptron whose layers' curvatures differ (Zhang et al. 2024, the MLP experiment).

The network, its function at the start and the data are the same for every contrast; only the scale of each layer's
parameters differs, and with it the layer's block of the Hessian. So the scale-free distances between the blocks'
spectra do not depend on the contrast, and the raw ones do.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from ...data import DATA
from ...figures.causes import draw_contrasts
from ...figures.runs import select
from ...files import Row
from ...hessian import block_spectra, distance_rows, heterogeneity
from ...models import MODELS
from ...progress import Track
from ...seeds import derive_seed
from ...settings import Settings
from ...synthetic.batched_training import Start, Training, start
from ...tasks.cross_entropy import summed_cross_entropy
from .tuned_runs import MakeRow, Parts, SummaryRow, Tables, estimate, gap_row, summary_row, tuned_rows, tuning_columns

SHARPEST = ("last", "first")
OPTIMIZERS = ("sgd", "adam")


class HeterogeneousMLP(Settings):
    """How much is computed.

    Attributes:
        contrasts: each makes the sharpest block contrast^4 times sharper against the flattest.
        hidden: widths of the hidden layers.
        image_size: of the digits in pixels.
        evaluation_fraction: of the digits that are not trained on.
        steps: of each run.
        batch_size: examples per step.
        seeds: runs with each learning rate.
        spectra: how many of the seeds' spectra are measured.
        lanczos_steps: of each probe.
        probes: of each block.
    """

    contrasts: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    hidden: tuple[int, ...] = (32, 32, 32)
    image_size: int = 8
    evaluation_fraction: float = 0.8
    steps: int = 200
    batch_size: int = 128
    seeds: int = 8
    spectra: int = 2
    lanczos_steps: int = 50
    probes: int = 6


SCALES = {
    "tiny": HeterogeneousMLP(
        contrasts=(1.0, 8.0),
        hidden=(6,),
        image_size=4,
        evaluation_fraction=0.98,
        steps=5,
        batch_size=10,
        seeds=2,
        spectra=1,
        lanczos_steps=5,
        probes=2,
    ),
    "quick": HeterogeneousMLP(),
    "paper": HeterogeneousMLP(
        hidden=(128, 128, 128),
        image_size=28,
        evaluation_fraction=0.2,
        steps=2000,
        spectra=5,
        lanczos_steps=100,
        probes=10,
    ),
}


def tables(settings: HeterogeneousMLP, parts: Parts, seed: int, track: Track) -> Tables:
    """All runs, the tuned rules, SGD minus Adam, and JS⁰."""
    runs, tuned, gaps, distances = [], [], [], []
    # At contrast 1 no layer is the sharpest, and one cell stands for all.
    cells = [pair for pair in product(SHARPEST, settings.contrasts) if pair[1] != 1 or pair[0] == SHARPEST[0]]
    for sharpest, contrast in track("heterogeneous MLP", cells, len(cells)):
        cell: Row = {"sharpest": sharpest, "contrast": contrast}
        trained = parts.rows(f"runs-{sharpest}-{contrast:g}", partial(_train, settings, cell, seed))
        by_rule = {rule: select(trained, optimizer=rule) for rule in OPTIMIZERS}
        runs += trained
        tuned += [cell | {"optimizer": rule} | summary_row(rows, seed) for rule, rows in by_rule.items()]
        gaps.append(cell | gap_row(by_rule["sgd"], by_rule["adam"], seed))
        distances += parts.rows(f"spectra-{sharpest}-{contrast:g}", partial(_measure, settings, cell, seed))
    return {"runs": runs, "tuned": tuned, "gaps": gaps, "heterogeneity": distances}


def draw(tables: Tables, folder: Path) -> None:
    """Losses, gaps and distances against the contrast."""
    draw_contrasts(tables["tuned"], tables["gaps"], tables["heterogeneity"], folder / "contrasts")


def summary(tables: Tables, settings: HeterogeneousMLP, row: MakeRow) -> Iterator[SummaryRow]:
    """Final losses of SGD and Adam, and SGD's minus Adam's, by contrast."""
    seeds, tuned = settings.seeds, tables["tuned"]
    for one in tuned:
        more = tuning_columns(tuned, [one])
        yield row(f"{_subject(one)}/{one['optimizer']}", "final_loss", estimate(one, seeds), seeds, **more)
    for gap in tables["gaps"]:
        more = tuning_columns(tuned, select(tuned, sharpest=gap["sharpest"], contrast=gap["contrast"]))
        yield row(_subject(gap), "gap", estimate(gap, seeds), seeds, **more)


def _subject(row: Row) -> str:
    return "none" if row["contrast"] == 1 else f"{row['sharpest']}_{row['contrast']:g}"


def _start(settings: HeterogeneousMLP, cell: Row, seed: int) -> Start:
    model = MODELS["scaled_mlp"].model_validate({"hidden": settings.hidden, **cell})
    digits = {"image_size": settings.image_size, "evaluation_fraction": settings.evaluation_fraction}
    return start(model, DATA["mnist5k"].model_validate(digits), seed)


def _train(settings: HeterogeneousMLP, cell: Row, seed: int) -> list[Row]:
    starts = [_start(settings, cell, derive_seed(seed, "run", number)) for number in range(settings.seeds)]
    return tuned_rows(OPTIMIZERS, starts, Training(settings.steps, settings.batch_size), **cell)


def _measure(settings: HeterogeneousMLP, cell: Row, seed: int) -> list[Row]:
    """The heterogeneity at the start: one row per seed, measure and smoothing."""
    rows: list[Row] = []
    for number in range(settings.spectra):
        begun = _start(settings, cell, derive_seed(seed, "run", number))
        spectra = block_spectra(
            begun.model,
            _summed_loss,
            [(begun.inputs, begun.labels)],
            steps=settings.lanczos_steps,
            probes=settings.probes,
            seed=seed,
        )
        rows += [
            cell | {"seed": begun.seed, "measure": measure, "sigma": sigma} | vars(found)
            for (measure, sigma), found in heterogeneity(distance_rows(spectra)).items()
        ]
    return rows


def _summed_loss(model: Any, batch: Any) -> tuple[Any, int]:
    images, labels = batch
    return summed_cross_entropy(model(images), labels), len(labels)
