"""What every picture shares."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest
from whyadam.figures.style import limit_losses, new_figure, new_panels, save_figure


def test_dollars_on_several_lines_are_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Matplotlib complains of a line break within a formula, though it draws each line by itself."""
    figure = new_figure(columns=1)
    text = figure.subplots().set_title("noise $\\alpha$\nand its control")
    save_figure(figure, tmp_path / "picture")
    assert text.get_parse_math()
    assert not [record for record in caplog.records if "glyph" in record.message]


def test_what_is_no_formula_is_shown_as_written(tmp_path: Path) -> None:
    """A run whose name holds dollar signs would end in a traceback of the parser."""
    figure = new_figure(columns=1)
    text = figure.subplots().set_title("a line\ncosts $5_{ and $6")
    save_figure(figure, tmp_path / "picture")
    assert not text.get_parse_math()


@pytest.mark.parametrize(
    ("losses", "start", "limits", "top", "scale"),
    [
        ([2.0, 1.0, 1e10], 2.0, (0.95, 2.05), 2.0, "linear"),
        ([1.0, 1.5], 2.0, (0.95, 2.05), 2.0, "linear"),
        ([2.4, 7.0, 12.4], 2.4, (1.9, 12.9), 12.4, "linear"),
        ([2.39, 3.39], 2.4, (2.34, 3.44), 3.39, "linear"),
        ([1.0, 2.0, math.inf, math.nan], math.nan, (0.95, 2.05), 2.0, "linear"),
        ([3.0, 3.0], 3.0, (2.85, 3.15), 3.0, "linear"),
        ([0.0], 0.0, (-1.0, 1.0), 0.0, "linear"),
        ([-3.0, 7.0], -3.0, (-3.5, 7.5), 7.0, "linear"),
        ([1.0, 1e20], 1.0, (0.1, 1e21), 1e20, "log"),
        ([0.0, 1e20], 0.0, (-5e18, 1.05e20), 1e20, "linear"),
        ([math.inf, math.nan], 2.0, (0.0, 1.0), math.inf, "linear"),
        ([], math.inf, (0.0, 1.0), math.inf, "linear"),
    ],
)
def test_the_loss_axis_is_never_upside_down(
    losses: list[float], start: float, limits: tuple[float, float], top: float, scale: str
) -> None:
    """All losses above that of the start, all equal, negative, none finite; any warning of matplotlib is an error."""
    axes = new_figure(columns=1).subplots()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert limit_losses(axes, losses, start) == top
    assert axes.get_ylim() == pytest.approx(limits)
    assert axes.get_yscale() == scale


def test_panels_that_are_not_needed_are_not_shown() -> None:
    """Empty axes beside the last panel."""
    figure, panels = new_panels(4, columns=3)
    assert len(panels) == 4
    assert [axes.axison for axes in figure.axes] == [True] * 4 + [False] * 2
