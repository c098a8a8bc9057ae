"""The pictures that a study file can ask for: by name, from the finished runs of its sweeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..figures.hessian import draw_blocks, draw_distances, draw_spectra, find_hessian
from ..figures.heterogeneity import draw_heterogeneity, mean_distances
from ..figures.loss import draw_halves, draw_losses
from ..figures.noise import draw_noise, find_noise
from ..figures.predictors import draw_predictors
from ..figures.runs import find_runs, group_by_setting
from ..figures.tuning import compare, draw_sensitivity
from .quantities import Results
from .summary import SummaryRow

PREDICTORS = ("js0", "js0_absolute", "scale_free_js0", "norm_tail0", "coordinate_tail0", "gradient_heterogeneity")


def _losses(results: Results, _rows: list[SummaryRow], out: Path) -> None:
    """Loss curves of each arm's best setting: a picture per sweep."""
    for name, result in results.items():
        draw_losses(group_by_setting(find_runs(run.folder for run in result.final)), _named(out, name))


def _sensitivity(results: Results, _rows: list[SummaryRow], out: Path) -> None:
    """Final loss against the learning rate: a picture per sweep."""
    for name, result in results.items():
        folders = [run.folder for run in result.tuning if run.is_result]
        draw_sensitivity(compare(find_runs(folders)), _named(out, name))


def _noise(results: Results, _rows: list[SummaryRow], out: Path) -> None:
    """The noise of the first seed of each sweep side by side."""
    draw_noise(find_noise(_first_folders(results, "noise.csv"), "batch"), out)


def _spectra(results: Results, _rows: list[SummaryRow], out: Path) -> None:
    """The full Hessian's spectrum of the first seed of each sweep: a row per sweep, a column per measured step."""
    runs = find_hessian(_first_folders(results, "hessian"))
    draw_spectra([run for run in runs if run.full(run.steps[0]) is not None], out)


def _each_first_seed(draw: Callable[..., object], results: Results, _rows: list[SummaryRow], out: Path) -> None:
    """A picture of the blocks of the first seed of each sweep."""
    for name, result in results.items():
        for folder in _first_folders({name: result}, "hessian"):
            draw(find_hessian([folder]), _named(out, name), 0)


def _heterogeneity(results: Results, _rows: list[SummaryRow], out: Path) -> None:
    """How unlike the blocks of each network are, beside the noise floor; all seeds."""
    folders = [run.folder for result in results.values() for run in result.final if (run.folder / "hessian").exists()]
    draw_heterogeneity(mean_distances(find_hessian(folders), "js_distance"), "js_distance", out)


def _predictors(_results: Results, rows: list[SummaryRow], out: Path) -> None:
    """The gap between SGD and Adam against what might predict it: a panel per predictor, a point per network."""
    frame = _frame(rows)
    values = {
        name: group.groupby("subject", sort=False)["value"].agg(list).to_dict()
        for name, group in frame.groupby("quantity", sort=False)
    }
    draw_predictors(values["gap"], {name: values[name] for name in PREDICTORS if name in values}, out)


def _halves(results: Results, rows: list[SummaryRow], out: Path) -> None:
    """Losses on rare labels against losses on frequent ones: a panel per sweep, a point per arm."""
    wide = _frame(rows).pivot(index=["subject", "seed"], columns="quantity", values="value")
    pairs = wide[["rare_half_loss", "frequent_half_loss"]].dropna()
    networks: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for (subject, _), pair in pairs[pairs["rare_half_loss"] < math.inf].iterrows():
        sweep, _, arm = subject.partition("/")
        networks.setdefault(sweep, {}).setdefault(arm, []).append(tuple(pair))
    draw_halves(networks, out)


def _frame(rows: list[SummaryRow]) -> Any:
    """The rows of runs that are there, as a pandas DataFrame."""
    import pandas as pd

    return pd.DataFrame([vars(row) for row in rows if not row.state])


PICTURES: dict[str, Callable[[Results, list[SummaryRow], Path], None]] = {
    "loss": _losses,
    "sensitivity": _sensitivity,
    "noise": _noise,
    "spectra": _spectra,
    "blocks": partial(_each_first_seed, draw_blocks),
    "js": partial(_each_first_seed, draw_distances),
    "heterogeneity": _heterogeneity,
    "predictors": _predictors,
    "halves": _halves,
}
"""Each draws the given sweeps, into files whose names begin with the given path."""


def _first_folders(results: Results, holding: str) -> list[Path]:
    """Of each sweep the first finished run whose folder holds a file or folder of that name."""
    found = ([run.folder for run in result.final if (run.folder / holding).exists()] for result in results.values())
    return [folders[0] for folders in found if folders]


def _named(out: Path, sweep: str) -> Path:
    return out.with_name(f"{out.name}-{sweep}")
