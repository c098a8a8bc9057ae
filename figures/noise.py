"""The pictures and the table of gradient noise (Zhang et al. 2020, figures 1 and 2), from run folders.

One file per picture, one column per run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..configs.load import load_experiment
from ..configs.schema import Experiment
from ..errors import UserError
from ..noise.norms import gaussian_norms, stable_norms
from ..noise.record import NoiseRecord
from .runs import labels
from .style import new_figure, save_figure, without_ending
from .tables import aligned

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Kind = Literal["batch", "example"]
Array = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """The noise of the whole model at one step.

    Attributes:
        norms: ``[samples]``.
        running_variance: ``[orders, samples]``.
        gaussian_norms: norms of Gaussian surrogates, ``[surrogates, samples]``.
        sketch_norms: norms that are to be compared with the surrogates', ``[samples]``.
    """

    norms: Array
    running_variance: Array
    gaussian_norms: Array
    sketch_norms: Array


@dataclass(frozen=True)
class NoiseRun:
    """The noise measurements of one run folder.

    Attributes:
        path: the folder.
        experiment: its config.
        kind: whether it is about mini-batches or about single examples.
        steps: the measured steps, in order.
    """

    path: Path
    experiment: Experiment
    kind: Kind
    steps: tuple[int, ...]

    def samples(self, step: int) -> Samples:
        """The raw samples of a measured step.

        Raises:
            UserError: they cannot be read, or there are none of this kind.
        """
        arrays = NoiseRecord(self.path).samples(step)
        if f"{self.kind}_norms" not in arrays:
            raise UserError(f"{self.path}: there are no single-example gradients of step {step}; set noise.examples")
        names = ("norms", "running_variance", "gaussian_norms", "sketch_norms")
        norms, *others = (arrays[f"{self.kind}_{name}"] for name in names)
        norms = norms[:, arrays["scopes"].tolist().index("all")]
        if not np.ptp(norms):
            raise UserError(f"{self.path}: the gradients of step {step} have no noise")
        return Samples(norms, *others)

    def effective_dimension(self, step: int) -> float:
        """That of the whole model's noise at a measured step."""
        return float(self.rows(step, "effective_dimension")["all"]["value"])

    def measured_step(self, step: int | None) -> int:
        """The step itself, or the last measured one for None.

        Raises:
            UserError: it was not measured.
        """
        if step is not None and step not in self.steps:
            raise UserError(f"{self.path}: no noise of step {step}; there are {', '.join(map(str, self.steps))}")
        return self.steps[-1] if step is None else step

    def rows(self, step: int, statistic: str) -> dict[str, dict[str, str]]:
        """The rows of one statistic, as text by column, by scope in the order of the model."""
        return {
            row["scope"]: row
            for row in NoiseRecord(self.path).rows()
            if (int(row["step"]), row["statistic"]) == (step, statistic)
            and (row["batch_size"] == "1") == (self.kind == "example")
        }


def find_noise(paths: Iterable[Path], kind: Kind) -> list[NoiseRun]:
    """The runs with noise measurements at or below some folders, in order of path.

    Raises:
        UserError: there is none, or its config cannot be read.
    """
    paths = list(paths)
    folders = sorted({table.parent for path in paths for table in [*path.glob("noise.csv"), *path.rglob("noise.csv")]})
    runs = [
        NoiseRun(folder, load_experiment(folder / "config.yaml"), kind, tuple(steps))
        for folder in folders
        if (steps := NoiseRecord(folder).steps())
    ]
    if not runs:
        raise UserError(f"{', '.join(map(str, paths))}: no noise measurement here; see `whyadam noise --help`")
    return runs


MEASURED, GAUSSIAN, STABLE = "#0072B2", "#009E73", "#D55E00"
VERDICT_COLORS = {"light": "#56B4E9", "gaussian": "#7F7F7F", "heavy": "#E69F00", "infinite_variance": "#D55E00"}


def use_logarithmic_x(axes: Axes) -> None:
    """Make the horizontal axis logarithmic, with few ticks, written as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


STABLE_ALPHA = 1.5
STABLE_DIMENSION = 1000
NOISE_NORM = r"$\|g - \nabla f\|$"
ALPHA = rf"$\alpha = {STABLE_ALPHA}$"
BINS = 32
RIDGES = 10
"""Maximum number of steps shown."""


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


TAIL_INDEX = "across_iterations/norm/hill_0.2"
LARGEST_INDEX = 50.0
"""Larger ones, which may be infinite, are drawn here."""

LEGEND_ROWS = 3
INCHES_PER_ROW = 0.19


def layers_height(run: NoiseRun, step: int) -> float:
    """Height in inches that the names of all layers need."""
    return 1.2 + INCHES_PER_ROW * (len(run.rows(step, TAIL_INDEX)) + LEGEND_ROWS)


def draw_layers(panels: Sequence[Axes], run: NoiseRun, step: int) -> None:
    """Hill's index of each layer's norms with its interval, over the range of its surrogates; color is the verdict."""
    (axes,) = panels
    rows = run.rows(step, TAIL_INDEX)
    verdicts = {scope: row["verdict"] for scope, row in run.rows(step, "overall").items()}
    for place, (scope, row) in enumerate(rows.items()):
        value, low, high, control_low, control_high = (
            min(float(row[column] or row["value"]), LARGEST_INDEX)
            for column in ("value", "ci_low", "ci_high", "control_low", "control_high")
        )
        label = "95 % of the surrogates" if place == 0 else None
        axes.barh(place, control_high - control_low, left=control_low, color=GAUSSIAN, alpha=0.25, label=label)
        axes.plot([low, high], [place, place], color=VERDICT_COLORS[verdicts[scope]], linewidth=1)
        axes.plot(value, place, "o", markersize=4, color=VERDICT_COLORS[verdicts[scope]])
    for verdict, color in VERDICT_COLORS.items():
        if verdict in verdicts.values():
            axes.plot([], [], "o-", markersize=4, linewidth=1, color=color, label=verdict.replace("_", " "))
    axes.axvline(2, color="black", linewidth=0.8, linestyle="--", label="infinite variance below")
    axes.set_yticks(range(len(rows)), list(rows), fontsize=7)
    axes.set_ylim(len(rows) - 1 + LEGEND_ROWS, -1)
    axes.set_xlabel("tail index of the noise norms (Hill)")
    use_logarithmic_x(axes)
    axes.legend(loc="lower right", ncols=2, fontsize=7)


Column = Callable[[Sequence["Axes"], NoiseRun, int], None]
"""Draws one run's panels, top to bottom, at one step."""

PICTURES: dict[str, tuple[int, Column]] = {
    "histogram": (3, draw_histograms),
    "tail": (2, draw_tails),
    "variance": (1, draw_variances),
    "evolution": (1, draw_ridges),
    "layers": (1, draw_layers),
}
"""Number of panels and the function that draws them, by the picture's suffix."""


def draw_noise(runs: Sequence[NoiseRun], out: Path, step: int | None = None) -> list[Path]:
    """Draw the noise norms of the whole model in four pictures, and the tail index of each layer in a fifth.

    Args:
        runs: whose noise.
        out: path of the pictures without ending; each adds ``-`` and its name.
        step: when; the last measured step of each run by default. The evolution shows all steps whatever it is.

    Returns:
        PNG, PDF and SVG of each picture.

    Raises:
        UserError: a run has no measurement of ``step``, or one that cannot be drawn.
    """
    names, steps = labels(runs), [run.measured_step(step) for run in runs]
    written = []
    for picture, (panels, draw_column) in PICTURES.items():
        figure = new_figure(columns=len(runs), rows=panels)
        if picture == "layers":
            figure.set_figheight(max(map(layers_height, runs, steps)))
        grid: NDArray = figure.subplots(panels, len(runs), squeeze=False)
        for axes, run, name, shown in zip(grid.T, runs, names, steps, strict=True):
            draw_column(axes, run, shown)
            axes[0].set_title(name if picture == "evolution" else f"{name}, step {shown}")
        written += save_figure(figure, out.with_name(f"{without_ending(out)}-{picture}"))
    return written


COLUMNS = (
    "run",
    "step",
    "samples",
    "verdict",
    "p",
    "tail index (95 % interval)",
    "of Gaussian noise",
    "V moves by",
    "noise scale",
    "layers",
)
MOVES = "running_variance/second_half_range"


def noise_table(runs: Sequence[NoiseRun]) -> str:
    """One line per run and measured step.

    The verdict and its p-value are those of the whole model; the tail index is Hill's, of the largest fifth of the
    noise norms, beside the range of the same on Gaussian surrogates. ``V moves by`` is how far the running variance
    still moves over the second half of the samples, as a share of it. Of the layers, there are so many of each verdict.
    """
    return aligned(
        COLUMNS, (_line(run, label, step) for run, label in zip(runs, labels(runs), strict=True) for step in run.steps)
    )


def _line(run: NoiseRun, label: str, step: int) -> tuple[str, ...]:
    overall, index, moves, scale = (run.rows(step, name) for name in ("overall", TAIL_INDEX, MOVES, "noise_scale"))
    samples = next(iter(moves.values()))["samples"]
    if "all" not in overall:
        return label, str(step), samples, "no noise", *[""] * 6
    verdicts = Counter(row["verdict"] for scope, row in overall.items() if scope != "all")
    tail = index["all"]
    return (
        label,
        str(step),
        samples,
        overall["all"]["verdict"],
        f"{float(overall['all']['value']):.3f}",
        f"{float(tail['value']):.1f} ({_range(tail, 'ci')})",
        _range(tail, "control"),
        f"{float(moves['all']['value']):.1%}",
        f"{float(scale['all']['value']):.3g}" if "all" in scale else "",
        ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common()),
    )


def _range(row: dict[str, str], what: str) -> str:
    ends = (row[f"{what}_low"], row[f"{what}_high"])
    return " to ".join("?" if end == "" else f"{float(end):.1f}" for end in ends)
