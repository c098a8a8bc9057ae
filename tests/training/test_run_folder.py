"""status.json is validated; metrics.csv has fixed columns and is cut at the checkpoint and at a damaged line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from whyadam.errors import UserError
from whyadam.figures.runs import find_runs
from whyadam.studies.report import write_report
from whyadam.studies.run import study_folders
from whyadam.training.metrics import COLUMNS, MetricsFile, MetricsRow, read_metrics
from whyadam.training.run_folder import RunFolder, read_status

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"state": 3}, "state: should be a valid string, got 3"),
    ({"step": "six"}, "step: should be a valid integer, got 'six'"),
    ({"seconds_training": "long"}, "seconds_training: should be a valid number, got 'long'"),
    ({"last_eval_loss": [2.0]}, "last_eval_loss: should be a valid number"),
    ({"versions": "new"}, "versions: should be an object"),
    ({"study": ["noise"]}, "study: should be a valid string"),
    ({"study": "noise", "settings": [1]}, "settings: should be an object"),
]


@pytest.mark.parametrize(("wrong", "line"), WRONG)
def test_a_wrong_key_is_named_by_whatever_reads_many_runs(
    wrong: dict[str, Any], line: str, mlp_config: dict[str, Any], tmp_path: Path
) -> None:
    """A traceback out of `report`, `figure` or `verify`, or a run that silently counts as another."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(mlp_config))
    (tmp_path / "metrics.csv").write_text("step,split,loss\n0,eval,2.5\n")
    (tmp_path / "status.json").write_text(json.dumps({"state": "done", "step": 6} | wrong))
    for read in (lambda: find_runs([tmp_path]), lambda: study_folders(tmp_path)):
        with pytest.raises(UserError, match=rf"status\.json: {line}"):
            read()
    with pytest.raises(UserError, match=rf"status\.json: {line}"):
        write_report([tmp_path], tmp_path / "report.html")
    assert RunFolder(tmp_path).read_status() == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b'{"state": \x00}'])
def test_what_is_no_status_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"status\.json: [a-z]") as caught:
        read_status(path)
    assert "\n" not in str(caught.value)


def test_a_status_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Catches keys that are lost or added on the way, and numbers that are none: a diverged run has these."""
    written = {"state": "diverged", "last_eval_loss": float("inf"), "of_the_user": [1, {"a": None}], "step": 3}
    folder = RunFolder(tmp_path)
    folder.write_status(**written)
    assert read_status(tmp_path / "status.json") == written
    folder.write_status(step=4)
    assert folder.read_status() == written | {"step": 4}


def row(step: int, loss: float = 1.0) -> MetricsRow:
    return MetricsRow(step=step, epoch=0.5, examples=step * 2, split="train", loss=loss, seconds=step / 10)


def test_the_columns_are_those_other_programs_rely_on() -> None:
    assert ",".join(COLUMNS) == (
        "step,epoch,examples,tokens,split,loss,perplexity,accuracy,exact_match,f1,lr,grad_norm,update_norm,"
        "clip_fraction,seconds"
    )


def test_what_does_not_apply_is_empty(tmp_path: Path) -> None:
    with MetricsFile(tmp_path / "metrics.csv", keep_until=None) as file:
        file.append(row(1))
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1] == "1,0.5,2,,train,1,,,,,,,,,0.1"


def test_a_float32_loss_reads_back_exactly(tmp_path: Path) -> None:
    import numpy as np

    losses = [float(np.float32(value)) for value in (1 / 3, 1e-30, 123456.789, 4.7712345)]
    with MetricsFile(tmp_path / "metrics.csv", keep_until=None) as file:
        for step, loss in enumerate(losses):
            file.append(row(step, loss))
    read = [float(np.float32(kept["loss"])) for kept in read_metrics(tmp_path / "metrics.csv")]
    assert read == losses


def test_rows_after_the_checkpoint_and_a_broken_last_line_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    with MetricsFile(path, keep_until=None) as file:
        for step in (1, 2, 3):
            file.append(row(step))
    text = path.read_text()
    path.write_text(text + "4,0.5,8,,tra")
    with MetricsFile(path, keep_until=2) as file:
        assert file.last_seconds == 0.2
        file.append(row(3))
    assert path.read_text() == text


def test_rows_are_there_before_the_file_is_closed(tmp_path: Path) -> None:
    """A kill must not lose what was measured."""
    file = MetricsFile(tmp_path / "metrics.csv", keep_until=None)
    file.append(row(1))
    assert len(read_metrics(tmp_path / "metrics.csv")) == 1
    file.close()


def test_beginning_anew_drops_old_rows(tmp_path: Path) -> None:
    with MetricsFile(tmp_path / "metrics.csv", keep_until=None) as file:
        file.append(row(0))
    with MetricsFile(tmp_path / "metrics.csv", keep_until=None):
        assert read_metrics(tmp_path / "metrics.csv") == []
