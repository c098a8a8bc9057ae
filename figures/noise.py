"""The pictures of gradient noise (Zhang et al. 2020, figures 1 and 2): a file a picture, a column a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .noise_layers import draw_layers, layers_height
from .noise_norms import draw_histograms, draw_ridges, draw_tails, draw_variances
from .noise_runs import NoiseRun
from .runs import labels
from .style import new_figure, save_figure, without_ending

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

Column = Callable[[Sequence["Axes"], NoiseRun, int], None]
"""Draws one run's panels, top to bottom, at one step."""

PICTURES: dict[str, tuple[int, Column]] = {
    "histogram": (3, draw_histograms),
    "tail": (2, draw_tails),
    "variance": (1, draw_variances),
    "evolution": (1, draw_ridges),
    "layers": (1, draw_layers),
}
"""Number of panels and what draws them, by the name that the picture adds to its path."""


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
