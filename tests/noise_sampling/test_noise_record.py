"""noise.csv and the raw samples beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from whyadam.errors import UserError
from whyadam.noise.record import COLUMNS, NoiseRecord, NoiseRow

ROW = NoiseRow(step=0, scope="all", statistic="variance", value=0.25, samples=64, batch_size=8, mode="train")


def write(record: NoiseRecord, step: int, value: float = 0.25) -> None:
    record.write(step, [replace(ROW, step=step, value=value)], {"norms": np.arange(3.0) + step})


def test_the_columns_are_those_other_programs_rely_on() -> None:
    assert ",".join(COLUMNS) == (
        "step,scope,statistic,value,ci_low,ci_high,control_low,control_high,verdict,samples,batch_size,mode"
    )


def test_what_does_not_apply_is_empty_and_infinity_is_kept(tmp_path: Path) -> None:
    record = NoiseRecord(tmp_path)
    full = replace(ROW, scope="1.weight", ci_low=1.0, ci_high=np.inf, verdict="heavy")
    record.write(0, [ROW, full], {})
    lines = (tmp_path / "noise.csv").read_text().splitlines()
    assert lines[1:] == ["0,all,variance,0.25,,,,,,64,8,train", "0,1.weight,variance,0.25,1,inf,,,heavy,64,8,train"]
    assert float(record.rows()[1]["ci_high"]) == np.inf


def test_samples_come_back(tmp_path: Path) -> None:
    record = NoiseRecord(tmp_path)
    write(record, 100)
    assert (tmp_path / "noise" / "step_000100.npz").exists()
    assert record.steps() == [100]
    np.testing.assert_array_equal(record.samples(100)["norms"], [100, 101, 102])


def test_a_second_measurement_of_a_step_replaces_the_first(tmp_path: Path) -> None:
    record = NoiseRecord(tmp_path)
    for step, value in ((0, 1.0), (20, 2.0), (100, 3.0), (20, 4.0)):
        write(record, step, value)
    assert [(row["step"], row["value"]) for row in record.rows()] == [("0", "1"), ("20", "4"), ("100", "3")]


def test_measurements_after_the_checkpoint_are_cut(tmp_path: Path) -> None:
    record = NoiseRecord(tmp_path)
    for step in (0, 20, 100):
        write(record, step)
    record.cut(20)
    assert [row["step"] for row in record.rows()] == ["0", "20"]
    assert record.steps() == [0, 20]


def test_the_same_measurement_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(NoiseRecord(tmp_path / name), 7)
    for file in ("noise.csv", "noise/step_000007.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert {path.name for path in (tmp_path / "a").rglob("*.*")} == {"noise.csv", "step_000007.npz"}


def test_an_empty_folder_has_nothing_and_stays_empty(tmp_path: Path) -> None:
    record = NoiseRecord(tmp_path)
    record.cut(5)
    assert (record.rows(), record.steps(), list(tmp_path.iterdir())) == ([], [], [])


def test_damaged_samples_are_said_in_one_line(tmp_path: Path) -> None:
    record = NoiseRecord(tmp_path)
    write(record, 3)
    path = tmp_path / "noise" / "step_000003.npz"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"step_000003\.npz: cannot be read") as caught:
        record.samples(3)
    assert "\n" not in str(caught.value)
