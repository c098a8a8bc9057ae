"""metrics.csv: fixed columns, cut at the checkpoint, safe against a line that was cut short."""

from __future__ import annotations

from pathlib import Path

from whyadam.training.metrics import COLUMNS, MetricsFile, MetricsRow, read_metrics


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
