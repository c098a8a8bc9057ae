"""The pictures and tables of docs/estimators.md and docs/distances.md, from samples and matrices whose law is known.

A minute on one core: `.venv/bin/python scripts/draw_explanations.py`. The same seed gives the same numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import levy_stable
from torch import Tensor
from whyadam.figures.style import new_figure
from whyadam.figures.tables import Table
from whyadam.hessian import PUBLISHED, RELATIVE, Spectrum, density, distance_rows, slq, smoothing_grid
from whyadam.noise import TailRow, tail_index, tail_index_path, tail_report

IMAGES = Path(__file__).parents[1] / "docs" / "images"
DPI = 80

SAMPLES = 100_000
LAYERS = 100
BATCHES, COORDINATES = 64, 500
ESTIMATORS = ("hill", "moment", "pickands", "mcculloch", "ecf", "block")
POSITIVE = ("hill", "moment", "pickands")
TICKS = (1, 2, 5, 10, 20, 50, 100)
NORM, COORDINATE = "across_iterations/norm/hill_0.2", "across_iterations/dense_coordinate/hill_0.05"

SIZE = 400
OUTLIERS = (1.5, 2.0, 3.0, 4.0)
PROBES = (2, 4, 8, 16, 32)
REPETITIONS = 10

Array = NDArray[np.float64]


def scalar_samples(generator: np.random.Generator) -> dict[str, Array]:
    """Values ``[SAMPLES]`` of one law each, and the one sample that is of many: layers of unequal scale, pooled."""
    gaussian = generator.standard_normal(SAMPLES)
    pooled = gaussian * np.exp(generator.normal(0, 2, LAYERS)).repeat(SAMPLES // LAYERS)
    return {
        "Gaussian": gaussian,
        f"Gaussian, {LAYERS} layers pooled": pooled,
        "the same, shuffled": generator.permutation(pooled),
        "Student t, 3 degrees": generator.standard_t(3, SAMPLES),
        "Laplace": generator.laplace(size=SAMPLES),
        "stable, alpha 1.8": levy_stable.rvs(1.8, 0, size=SAMPLES, random_state=generator),
        "stable, alpha 1.5": levy_stable.rvs(1.5, 0, size=SAMPLES, random_state=generator),
    }


def noise_samples(generator: np.random.Generator) -> dict[str, Array]:
    """Gradient noise ``[BATCHES, COORDINATES]`` as ``tail_report`` takes it."""
    shape = (BATCHES, COORDINATES)
    scales = np.exp(generator.normal(0, 2, COORDINATES))
    return {
        "Gaussian": generator.standard_normal(shape),
        "Gaussian, unequal scales": generator.standard_normal(shape) * scales,
        "uniform, unequal scales": generator.uniform(-1, 1, shape) * scales,
        "Student t, 3 degrees": generator.standard_t(3, shape) * scales,
        "log-normal, sigma 1, equal scales": generator.lognormal(size=shape) * generator.choice([-1, 1], shape),
        "stable, alpha 1.8": levy_stable.rvs(1.8, 0, size=shape, random_state=generator) * scales,
        "stable, alpha 1.5": levy_stable.rvs(1.5, 0, size=shape, random_state=generator) * scales,
    }


def print_estimates(samples: dict[str, Array]) -> None:
    """What each estimator answers on each sample, whether or not it was made for it."""
    rows = []
    for name, values in samples.items():
        estimates = [tail_index(np.abs(values) if e in POSITIVE else values, e).alpha for e in ESTIMATORS]
        rows.append((name, *(f"{alpha:.2f}" for alpha in estimates)))
    print(Table(("sample", *ESTIMATORS), rows).markdown(), end="\n\n")


def draw_hill_paths(samples: dict[str, Array]) -> Figure:
    """Hill's estimate against the share of the sample that counts as tail."""
    figure = new_figure(1)
    axes = figure.add_subplot()
    ks = np.unique(np.geomspace(SAMPLES // 1000, SAMPLES // 5, 25).astype(int))
    for name, values in samples.items():
        if "shuffled" in name:
            continue  # an order statistic does not see the order
        path = [estimate.alpha for estimate in tail_index_path(np.abs(values), "hill", ks)]
        axes.plot(ks / SAMPLES, path, label=name, linestyle="--" if "pooled" in name else "-")
    axes.axhline(2, color="black", linewidth=0.8)
    axes.annotate("below: infinite variance", (0.2, 1.95), va="top", ha="right", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="share of the sample used (k/n)", ylabel=r"Hill's estimate of $\alpha$")
    axes.legend(fontsize=8)
    return figure


def draw_verdicts(reports: dict[str, dict[str, TailRow]]) -> Figure:
    """Two statistics of each report: the measured value with its interval over the band of the Gaussian control."""
    figure = new_figure(2)
    panels = figure.subplots(1, 2, sharey=True)
    places = range(len(reports))
    for axes, statistic, title in zip(panels, (NORM, COORDINATE), ("norms", "single coordinates"), strict=True):
        rows = [report[statistic] for report in reports.values()]
        low, high = ([getattr(row, end) for row in rows] for end in ("control_low", "control_high"))
        axes.hlines(places, low, high, colors="#B0B0B0", linewidth=9, label="Gaussian control, 95 %")
        values = [row.value for row in rows]
        ends = [[row.value - (row.ci_low or 0), (row.ci_high or row.value) - row.value] for row in rows]
        axes.errorbar(values, places, xerr=np.array(ends).T, fmt="o", color="black", capsize=3, label="measured, 95 %")
        axes.axvline(2, color="#D55E00", linewidth=0.8)
        axes.set(xscale="log", xlabel=r"Hill's estimate of $\alpha$", title=f"tail of {title}")
        axes.set_xticks(TICKS, map(str, TICKS))
        axes.minorticks_off()
    panels[0].set_yticks(places, reports)
    panels[0].invert_yaxis()
    panels[1].legend(fontsize=8, loc="upper right")
    return figure


def print_verdicts(reports: dict[str, dict[str, TailRow]]) -> None:
    """The numbers of ``draw_verdicts`` with the verdicts, and how much the norms scatter."""
    rows = []
    for name, report in reports.items():
        indices = {"norms": report[NORM], "coordinates": report[COORDINATE]}
        cells = [
            f"{row.value:.1f} (control {row.control_low:.1f} to {row.control_high:.1f}): {report[family].verdict}"
            for family, row in indices.items()
        ]
        scatter = report["across_iterations/norm/sd_over_mean"].value
        rows.append((name, f"{scatter:.0%}", *cells))
    print(Table(("noise", "sd/mean of norms", "norms", "single coordinates"), rows).markdown(), end="\n\n")


def symmetric(generator: torch.Generator, outliers: Iterable[float] = OUTLIERS) -> Tensor:
    """A random matrix ``[SIZE, SIZE]``: a half circle of eigenvalues from -1 to 1, and a few beyond it."""
    half = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    eigenvalues, vectors = torch.linalg.eigh((half + half.T) / (8 * SIZE) ** 0.5)
    planted = torch.tensor(list(outliers), dtype=torch.float64)
    eigenvalues[-len(planted) :] = planted
    return (vectors * eigenvalues) @ vectors.T


def one_sided(generator: torch.Generator) -> Tensor:
    """A random matrix ``[SIZE, SIZE]`` with half of its eigenvalues zero and half between 0 and about 1."""
    factor = torch.randn(SIZE, SIZE // 2, generator=generator, dtype=torch.float64)
    return factor @ factor.T / (3 * SIZE)


def measured(matrix: Tensor, *, steps: int = 50, probes: int = 10, seed: int = 0) -> Spectrum:
    """The spectrum as the published scheme estimates it."""
    return slq(lambda vector: matrix @ vector, SIZE, steps=steps, probes=probes, seed=seed)


def print_distances(spectra: dict[str, Spectrum]) -> None:
    """Every pair of spectra under the measures that the page compares, as ``distance (noise floor)``."""
    wanted = (
        ("js_distance", str(PUBLISHED)),
        ("js_distance", str(RELATIVE)),
        ("scale_free_js_distance", str(RELATIVE)),
        ("wasserstein1", ""),
    )
    pairs: dict[str, dict[tuple[str, str], str]] = {}
    for row in distance_rows(spectra):
        cells = pairs.setdefault(f"{row.block_a}, {row.block_b}", {})
        cells[row.measure, row.sigma] = f"{row.value:.2g} ({row.noise_floor:.1g})"
    header = ("pair", *(f"{measure}, sigma {sigma}" if sigma else measure for measure, sigma in wanted))
    rows = [(pair, *(cells[key] for key in wanted)) for pair, cells in pairs.items()]
    print(Table(header, rows).markdown(), end="\n\n")


def draw_smoothing(spectra: dict[str, Spectrum]) -> Figure:
    """The same spectra under the absolute and under the relative width."""
    figure = new_figure(2)
    for axes, smoothing in zip(figure.subplots(1, 2), (PUBLISHED, RELATIVE), strict=True):
        grid = smoothing_grid(*spectra.values(), sigma=smoothing)
        for name, spectrum in spectra.items():
            width = smoothing.width(*spectra.values())
            axes.plot(grid, density(spectrum, grid, sigma=width), label=name)
        kind = "1 % of the range" if smoothing.relative else f"{smoothing}, absolute"
        axes.set(title=f"sigma: {kind}", xlabel="eigenvalue", ylabel="density")
        axes.legend(fontsize=8)
    return figure


def draw_floor(generator: torch.Generator) -> Figure:
    """Distances of a matrix to itself and to another one, beside their noise floors, against the number of probes."""
    matrix = symmetric(generator)
    doubled = symmetric(generator, [2 * outlier for outlier in OUTLIERS])
    figure = new_figure(1)
    axes = figure.add_subplot()
    rows = []
    for name, other, color in (("itself", matrix, "#0072B2"), ("doubled outliers", doubled, "#D55E00")):
        values, floors = np.array([_distances(matrix, other, probes) for probes in PROBES]).transpose(2, 0, 1)
        axes.plot(PROBES, values.mean(1), "o-", color=color, label=f"distance to {name}")
        axes.plot(PROBES, floors.mean(1), "--", color=color, label="its noise floor")
        axes.fill_between(PROBES, values.min(1), values.max(1), color=color, alpha=0.2)
        rows.append(
            (f"to {name}", *(f"{v:.3f} ({f:.3f})" for v, f in zip(values.mean(1), floors.mean(1), strict=True)))
        )
    axes.set(xscale="log", xlabel="probes", ylabel="Jensen-Shannon distance, sigma 1 %", ylim=(0, None))
    axes.set_xticks(PROBES, map(str, PROBES))
    axes.minorticks_off()
    axes.legend(fontsize=8)
    header = ("distance (noise floor)", *(f"{probes} probes" for probes in PROBES))
    print(Table(header, rows).markdown())
    return figure


def _distances(matrix: Tensor, other: Tensor, probes: int) -> list[tuple[float, float]]:
    """Distance and noise floor of independent measurements, one pair a repetition."""
    found = []
    for seed in range(REPETITIONS):
        spectra = {"a": measured(matrix, probes=probes, seed=2 * seed)}
        spectra["b"] = measured(other, probes=probes, seed=2 * seed + 1)
        rows = distance_rows(spectra, [RELATIVE])
        found.append(next((row.value, row.noise_floor) for row in rows if row.measure == "js_distance"))
    return found


def main() -> None:
    """Draw all pictures and print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=IMAGES)
    given = parser.parse_args()
    generator, torch_generator = np.random.default_rng(given.seed), torch.Generator().manual_seed(given.seed)

    samples = scalar_samples(generator)
    print_estimates(samples)
    reports = {
        name: {row.statistic: row for row in tail_report(noise)} for name, noise in noise_samples(generator).items()
    }
    print_verdicts(reports)
    wide, half = symmetric(torch_generator), one_sided(torch_generator)
    spectra = {
        name: measured(matrix) for name, matrix in {"A": wide, "A/1000": wide / 1000, "B/1000": half / 1000}.items()
    }
    print_distances(spectra)
    figures = {
        "explain_hill": draw_hill_paths(samples),
        "explain_verdicts": draw_verdicts(reports),
        "explain_smoothing": draw_smoothing({name: spectra[name] for name in ("A/1000", "B/1000")}),
        "explain_floor": draw_floor(torch_generator),
    }
    for name, figure in figures.items():
        figure.savefig(given.out / f"{name}.png", dpi=DPI, metadata={"Software": None})


if __name__ == "__main__":
    main()
