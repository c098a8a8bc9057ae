"""Panels that show noise norms of the whole model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..noise.references import gaussian_norms, stable_norms
from .noise_runs import Array, NoiseRun
from .noise_style import GAUSSIAN, MEASURED, STABLE, use_logarithmic_x

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STABLE_ALPHA = 1.5
STABLE_DIMENSION = 1000
NOISE_NORM = r"$\|g - \nabla f\|$"
ALPHA = rf"$\alpha = {STABLE_ALPHA}$"
BINS = 32
RIDGES = 10
"""At most so many steps are shown."""


def draw_histograms(panels: Sequence[Axes], run: NoiseRun, step: int) -> None:
    """Measured norms above those of Gaussian and of α-stable vectors with the same median, on one axis."""
    norms = run.samples(step).norms
    laws = {
        f"measured, {len(norms)} samples": (norms, MEASURED),
        "norm of a Gaussian vector": (gaussian_norms(norms, run.effective_dimension(step)), GAUSSIAN),
        f"norm of a stable vector, {ALPHA}": (
            stable_norms(norms, STABLE_ALPHA, STABLE_DIMENSION),
            STABLE,
        ),
    }
    ends = np.array([np.quantile(values, [0.005, 0.95]) for values, _ in laws.values()])
    bins = np.linspace(min(norms.min(), ends[:, 0].min()), 1.02 * max(norms.max(), ends[:, 1].max()), BINS + 1)
    for axes, (law, (values, color)) in zip(panels, laws.items(), strict=True):
        axes.hist(values, bins.tolist(), weights=np.full(len(values), 1 / len(values)), color=color)
        beyond = np.mean(values > bins[-1])
        axes.set(xlim=(bins[0], bins[-1]), ylabel="share", xlabel=NOISE_NORM)
        note = law if beyond < 5e-4 else f"{law}\n{beyond:.1%} lie to the right"
        axes.text(0.98, 0.95, note, transform=axes.transAxes, ha="right", va="top")


def draw_tails(panels: Sequence[Axes], run: NoiseRun, step: int) -> None:
    """A QQ-plot against Gaussian surrogates, and the survival function on logarithmic axes."""
    samples = run.samples(step)
    surrogates = np.sort(samples.gaussian_norms, axis=1)
    low, middle, high = np.quantile(surrogates, [0.025, 0.5, 0.975], axis=0)
    quantiles, survival = panels
    quantiles.fill_between(middle, low, high, color=GAUSSIAN, alpha=0.25, linewidth=0, label="95 % of the surrogates")
    quantiles.plot(middle, middle, color=GAUSSIAN, linewidth=1)
    quantiles.plot(middle, np.sort(samples.sketch_norms), ".", color=MEASURED, label="measured")
    quantiles.set(xlabel="norm of Gaussian noise of the same covariance", ylabel=f"{NOISE_NORM}, sketched")
    quantiles.legend()

    count = len(middle)
    exceeding = 1 - (np.arange(count) + 0.5) / count
    stable = np.sort(stable_norms(samples.norms, STABLE_ALPHA, STABLE_DIMENSION))
    survival.fill_betweenx(exceeding, low, high, color=GAUSSIAN, alpha=0.25, linewidth=0, label="Gaussian surrogates")
    survival.plot(
        np.quantile(stable, 1 - exceeding), exceeding, color=STABLE, linewidth=1, label=f"stable vector, {ALPHA}"
    )
    survival.plot(np.sort(samples.norms), exceeding, ".", color=MEASURED, label="measured")
    survival.set(yscale="log", xlabel="x", ylabel=f"share of {NOISE_NORM} > x")
    use_logarithmic_x(survival)
    survival.legend()


def draw_variances(panels: Sequence[Axes], run: NoiseRun, step: int) -> None:
    """The running variance in several random orders, and that of as many Gaussian surrogates."""
    (axes,) = panels
    samples = run.samples(step)
    final = samples.running_variance[0, -1]
    counts = np.arange(1, len(samples.norms) + 1)
    orders = len(samples.running_variance)
    gaussian = (samples.gaussian_norms[:orders] ** 2).cumsum(axis=1) / counts
    for lines, color, label in (
        (gaussian / gaussian[:, -1:], GAUSSIAN, "Gaussian surrogates"),
        (samples.running_variance / final, MEASURED, f"measured, {orders} random orders"),
    ):
        axes.plot(counts, lines.T, color=color, linewidth=1, alpha=0.6)
        axes.plot([], [], color=color, label=label)
    axes.set(xlabel="number of samples n", ylabel="variance of the first n / of all")
    axes.grid(alpha=0.3)
    axes.legend()


def draw_ridges(panels: Sequence[Axes], run: NoiseRun, step: int) -> None:
    """The density of the norms at each measured step, the first at the top, on one logarithmic axis."""
    (axes,) = panels
    steps = [run.steps[place] for place in _spread(len(run.steps), RIDGES)]
    norms = [run.samples(shown).norms for shown in steps]
    ends = np.log([min(values.min() for values in norms), max(values.max() for values in norms)])
    margin = 0.1 * max(ends[1] - ends[0], 0.1)
    grid = np.linspace(ends[0] - margin, ends[1] + margin, 400)
    for place, values in enumerate(norms):
        density = _density(np.log(values), grid)
        axes.fill_between(np.exp(grid), -place, -place + 0.95 * density, color=MEASURED, alpha=0.5, linewidth=0)
        axes.plot(np.exp(grid), -place + 0.95 * density, color=MEASURED, linewidth=1)
    axes.set_yticks(-np.arange(len(steps)), [f"step {shown}" for shown in steps])
    axes.set_xlabel(NOISE_NORM)
    use_logarithmic_x(axes)


def _spread(length: int, count: int) -> list[int]:
    """At most ``count`` places out of ``length``, evenly spread, with both ends."""
    return sorted(set(np.linspace(0, length - 1, min(length, count)).round().astype(int).tolist()))


def _density(values: Array, grid: Array) -> Array:
    """A kernel estimate with its highest value at 1."""
    from scipy.stats import gaussian_kde

    density = gaussian_kde(values)(grid)
    return density / density.max()
