"""``whyadam report`` on a run and on a study, from the shell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner
from whyadam.cli import app
from whyadam.errors import UserError


def whyadam(*arguments: str | Path) -> str:
    """What the command prints; a mistake of the user's is raised."""
    answer = CliRunner().invoke(app, list(map(str, arguments)))
    if answer.exception is not None:
        raise answer.exception
    return answer.output


def test_runs_and_studies_on_one_page(
    mlp_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run and a finished study; the page lies where it was asked for."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(yaml.safe_dump(mlp_config))
    whyadam("train", "config.yaml")
    whyadam("reproduce", "lower_bound", "--scale", "tiny")
    assert whyadam("report", "runs/tiny", "runs/studies", "-o", "pages/all.html") == "pages/all.html\n"
    text = Path("pages/all.html").read_text()
    for picture in ("loss", "errors"):
        assert f'alt="{picture}"' in text
    assert "gclip-rate-is-the-best-possible" in text
    assert "<td>device</td><td>cpu</td>" in text
    assert "eval_examples: 64" in text
    assert "| run | state | step | last_train_loss |" in text
    assert r"run &amp; state &amp; step &amp; last\_train\_loss &amp;" in text


def test_a_folder_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        whyadam("report", "nowhere")
