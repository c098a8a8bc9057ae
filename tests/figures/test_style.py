"""What every picture shares."""

from __future__ import annotations

from pathlib import Path

import pytest
from whyadam.figures.style import new_figure, new_panels, save_figure


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


def test_panels_that_are_not_needed_are_not_shown() -> None:
    """Empty axes beside the last panel."""
    figure, panels = new_panels(4, columns=3)
    assert len(panels) == 4
    assert [axes.axison for axes in figure.axes] == [True] * 4 + [False] * 2
