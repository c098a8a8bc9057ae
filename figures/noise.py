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

from ..configs.schema import Experiment
from ..errors import UserError
from ..noise.norms import gaussian_norms, running_variance, stable_norms
from ..noise.record import NoiseRecord
from ..training.run_folder import RunFolder
from .runs import labels
from .style import new_figure, save_figure, without_ending
from .tables import aligned

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Kind = Literal["batch", "example"]
Array = NDArray[Any]

OVERALL = "overall"
HILL = {"norms": "across_iterations/norm/hill_0.2", "coordinates": "across_iterations/dense_coordinate/hill_0.05"}
"""The families of statistics that are shown, and the row that has the index in older folders."""


@dataclass(frozen=True)
class Samples:
    """The noise of the whole model at one step.

    Attributes:
        norms: ``[samples]``.
        running_variance: ``[orders, samples]``.
        gaussian_norms: norms of Gaussian surrogates of the sketched samples, ``[surrogates, samples]``.
        sketch_norms: norms of the sketched samples, the ones to compare with the surrogates', ``[samples]``.
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
        if self.kind == "example" and "example_norms" not in arrays and "batch_norms" in arrays:
            raise UserError(f"{self.path}: there are no single-example gradients of step {step}; set noise.examples")
        names = ("norms", "running_variance", "gaussian_norms", "sketch_norms")
        try:
            norms, *others = (np.asarray(arrays[f"{self.kind}_{name}"], dtype=float) for name in names)
            norms = norms[:, arrays["scopes"].tolist().index("all")]
            if any(array.shape[-1] not in (len(norms), len(others[-1])) for array in others):
                raise ValueError("arrays of unequal lengths")
        except (KeyError, IndexError, TypeError, ValueError) as error:
            path = self.path / "noise" / f"step_{step:06d}.npz"
            raise UserError(f"{path}: does not hold the arrays of a noise measurement: {error}") from None
        if not np.ptp(norms):
            raise UserError(f"{self.path}: the gradients of step {step} have no noise")
        return Samples(norms, *others)

    def effective_dimension(self, step: int) -> float:
        """That of the whole model's noise at a measured step."""
        return float(self.rows(step, "effective_dimension")["all"]["value"])

    def verdicts(self, step: int, family: str) -> dict[str, dict[str, str]]:
        """The rows of the verdicts on a family by scope; in an older folder, of all statistics together."""
        return self.rows(step, family) or self.rows(step, OVERALL)

    def tail_indices(self, step: int, family: str) -> dict[str, dict[str, str]]:
        """The rows of the tail index of a family by scope."""
        return self.rows(step, f"{family}/tail_index") or self.rows(step, HILL[family])

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
        NoiseRun(folder, RunFolder(folder).read_config(), kind, tuple(steps))
        for folder in folders
        if (steps := NoiseRecord(folder).steps())
    ]
    if not runs:
        raise UserError(f"{', '.join(map(str, paths))}: no noise measurement here; see `whyadam noise --help`")
    return runs


MEASURED, GAUSSIAN, STABLE = "#0072B2", "#009E73", "#D55E00"
VERDICT_COLORS = {
    "light": "#56B4E9",
    "gaussian": "#7F7F7F",
    "mild": "#F0E442",
    "heavy": "#E69F00",
    "infinite_variance": "#D55E00",
}


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
    """A QQ-plot against Gaussian surrogates, and the survival function on logarithmic axes; both of sketched norms."""
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
    stable = np.sort(stable_norms(samples.sketch_norms, STABLE_ALPHA, STABLE_DIMENSION))
    survival.fill_betweenx(exceeding, low, high, color=GAUSSIAN, alpha=0.25, linewidth=0, label="Gaussian surrogates")
    survival.plot(
        np.quantile(stable, 1 - exceeding), exceeding, color=STABLE, linewidth=1, label=f"stable vector, {ALPHA}"
    )
    survival.plot(np.sort(samples.sketch_norms), exceeding, ".", color=MEASURED, label="measured")
    survival.set(yscale="log", xlabel="x", ylabel=f"share of {NOISE_NORM}, sketched, > x")
    use_logarithmic_x(survival)
    survival.legend()


def draw_variances(panels: Sequence[Axes], run: NoiseRun, step: int) -> None:
    """The running variance in several random orders, and that of as many Gaussian surrogates, of sketched norms."""
    (axes,) = panels
    samples = run.samples(step)
    counts = np.arange(1, len(samples.norms) + 1)
    orders = len(samples.running_variance)
    gaussian = (samples.gaussian_norms[:orders] ** 2).cumsum(axis=1) / counts
    measured = running_variance(samples.sketch_norms, orders=orders)
    for lines, color, label in (
        (gaussian / gaussian[:, -1:], GAUSSIAN, "Gaussian surrogates"),
        (measured / measured[:, -1:], MEASURED, f"measured, {orders} random orders"),
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


LARGEST_INDEX = 50.0
"""Larger ones, which may be infinite, are drawn here."""

LEGEND_ROWS = 3
INCHES_PER_ROW = 0.19


def layers_height(run: NoiseRun, step: int) -> float:
    """Height in inches that the names of all layers need in both panels."""
    return sum(1.2 + INCHES_PER_ROW * (len(run.tail_indices(step, family)) + LEGEND_ROWS) for family in HILL)


def draw_layers(panels: Sequence[Axes], run: NoiseRun, step: int) -> None:
    """Hill's index of each layer's norms, and that of its coordinates, over the range of the surrogates.

    The color is the verdict on the family.
    """
    for axes, family in zip(panels, HILL, strict=True):
        _draw_indices(axes, run.tail_indices(step, family), run.verdicts(step, family))
        axes.set_xlabel(f"tail index of the noise: {family} (Hill)")


def _draw_indices(axes: Axes, rows: dict[str, dict[str, str]], judged: dict[str, dict[str, str]]) -> None:
    verdicts = {scope: row["verdict"] for scope, row in judged.items()}
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
    use_logarithmic_x(axes)
    axes.legend(loc="lower right", ncols=2, fontsize=7)


Column = Callable[[Sequence["Axes"], NoiseRun, int], None]
"""Draws one run's panels, top to bottom, at one step."""

PICTURES: dict[str, tuple[int, Column]] = {
    "histogram": (3, draw_histograms),
    "tail": (2, draw_tails),
    "variance": (1, draw_variances),
    "evolution": (1, draw_ridges),
    "layers": (len(HILL), draw_layers),
}
"""Number of panels and the function that draws them, by the picture's suffix."""


def draw_noise(runs: Sequence[NoiseRun], out: Path, step: int | None = None) -> list[Path]:
    """Draw the noise norms of the whole model in four pictures, and the tail indices of each layer in a fifth.

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
    "norms",
    "p",
    "tail index (95 % interval)",
    "of Gaussian noise",
    "sd/mean",
    "coordinates",
    "p",
    "V moves by",
    "noise scale",
    "norms of layers",
    "coordinates of layers",
)
SCATTER = "across_iterations/norm/sd_over_mean"
MOVES = "running_variance/second_half_range"


def noise_table(runs: Sequence[NoiseRun]) -> str:
    """One line per run and measured step.

    Verdicts and p-values are of the whole model: on the norms of the noise and on its single coordinates. The tail
    index is Hill's, of the norms, beside the range of the same on Gaussian surrogates. ``V moves by`` is how far the
    running variance still moves over the second half of the samples, as a share of it. The last columns count layers by
    verdict. In an older folder the verdict is on all statistics together.
    """
    return aligned(
        COLUMNS, (_line(run, label, step) for run, label in zip(runs, labels(runs), strict=True) for step in run.steps)
    )


def _line(run: NoiseRun, label: str, step: int) -> tuple[str, ...]:
    scatter, moves, scale = (run.rows(step, name).get("all") for name in (SCATTER, MOVES, "noise_scale"))
    norms, coordinates = (run.verdicts(step, family) for family in HILL)
    samples = moves["samples"] if moves else ""
    if "all" not in norms or moves is None:
        return label, str(step), samples, "no noise", *[""] * (len(COLUMNS) - 4)
    tail = run.tail_indices(step, "norms")["all"]
    return (
        label,
        str(step),
        samples,
        *_judged(norms),
        f"{float(tail['value']):.1f} ({_range(tail, 'ci')})",
        _range(tail, "control"),
        f"{float(scatter['value']):.1%}" if scatter else "",
        *_judged(coordinates),
        f"{float(moves['value']):.1%}",
        f"{float(scale['value']):.3g}" if scale else "",
        _counts(norms),
        _counts(coordinates),
    )


def _judged(rows: dict[str, dict[str, str]]) -> tuple[str, str]:
    """Verdict and p-value of the whole model."""
    row = rows.get("all")
    if row is None:
        return "", ""
    together = " (all together)" if row["statistic"] == OVERALL else ""
    return f"{row['verdict']}{together}", f"{float(row['value']):.3f}"


def _counts(rows: dict[str, dict[str, str]]) -> str:
    verdicts = Counter(row["verdict"] for scope, row in rows.items() if scope != "all")
    return ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())


def _range(row: dict[str, str], what: str) -> str:
    ends = (row[f"{what}_low"], row[f"{what}_high"])
    return " to ".join("?" if end == "" else f"{float(end):.1f}" for end in ends)
