"""summary.csv: what is written is read back, and damage is named by file, line and column."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from whyadam.errors import UserError
from whyadam.studies.summary import SummaryRow, read_summary, write_summary

KEY = {"study": "optimizer_curves", "scale": "quick", "subject": "bert_nano/sgd", "quantity": "final_eval_loss"}
HEADER = "study,scale,subject,quantity,seed,value,ci_low,ci_high,samples,tried,at_edge,unit"
"""Of older files."""
GOOD = "s,quick,a,loss,0,1.5,,,,5,false,nats"


def test_rows_are_read_back_to_the_last_bit(tmp_path: Path) -> None:
    rows = [
        SummaryRow(**KEY, seed=0, value=0.1 + 0.2, tried=5, at_edge=False, unit="nats"),
        SummaryRow(**KEY, seed=1, value=math.inf, tried=5, at_edge=True, unit="nats"),
        SummaryRow(**{**KEY, "subject": 'odd, "name"'}, value=-1e-300, ci_low=-math.inf, ci_high=2.0, samples=3000),
        SummaryRow.of_missing_run("optimizer_curves", "quick", "bert_nano/adam", 4, "failed"),
    ]
    rows = [replace(row, made="2026-12-01T10:00:00+00:00", settings="0123abcd") for row in rows]
    write_summary(tmp_path / "new" / "summary.csv", rows)
    *numbers, missing = read_summary(tmp_path / "new" / "summary.csv")
    assert numbers == rows[:-1]
    assert (missing.subject, missing.seed, missing.state, missing.settings) == (
        "bert_nano/adam",
        4,
        "failed",
        "0123abcd",
    )
    assert math.isnan(missing.value)


def test_older_files_without_date_and_state_are_read(tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    path.write_text(f"{HEADER}\n{GOOD}\n")
    (row,) = read_summary(path)
    assert (row.value, row.tried, row.at_edge, row.unit) == (1.5, 5, False, "nats")
    assert (row.state, row.made, row.settings) == ("", "", "")


def test_the_columns_are_those_agreed_on(tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    write_summary(path, [SummaryRow(**KEY, seed=3, value=2.5, tried=5, at_edge=False, unit="nats")])
    assert path.read_text() == (
        "study,scale,subject,quantity,seed,value,ci_low,ci_high,samples,tried,at_edge,unit,state,made,settings\n"
        "optimizer_curves,quick,bert_nano/sgd,final_eval_loss,3,2.5,,,,5,false,nats,,,\n"
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("s,quick,a,loss,zero,1.5,,,,5,false,nats", "line 3: column seed is 'zero', should be a whole number or empty"),
        ("s,quick,a,loss,-1,1.5,,,,5,false,nats", "line 3: column seed is '-1'"),
        ("s,quick,a,loss,1,,,,,5,false,nats", "line 3: column value is '', should be a number"),
        ("s,quick,,loss,1,1.5,,,,5,false,nats", "line 3: column subject is '', should be some text"),
        ("s,quick,a,loss,1,1.5,,,,5,maybe,nats", "line 3: column at_edge is 'maybe', should be true, false or empty"),
        ("s,quick,a,loss,1,1.5,1,2,30,5,false,nats", "line 3: seed is given, so ci_low"),
        ("s,quick,a,loss,,1.5,1,2,,5,false,nats", "line 3: seed is empty, so ci_low"),
        ("s,quick,a,loss,,1.5,2,1,30,5,false,nats", "line 3: ci_low is above ci_high"),
        ("s,quick,a,loss,1,1.5", "line 3: should have 12 fields"),
        ("s,quick,a,loss,1,1.5,,,,5,false,nats,more", "line 3: should have 12 fields"),
        (GOOD, "line 3: column seed: loss of a with seed 0 is there twice"),
    ],
)
def test_damage_is_named(line: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    path.write_text(f"{HEADER}\n{GOOD}\n{line}\n")
    with pytest.raises(UserError) as caught:
        read_summary(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    path.write_text(HEADER.replace(",tried", "") + "\n")
    with pytest.raises(UserError, match="line 1: column tried is missing"):
        read_summary(path)
    path.write_text(HEADER + ",mood\n")
    with pytest.raises(UserError, match="line 1: column mood is not one of study, scale"):
        read_summary(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b'study,"scale'])
def test_no_summary_at_all_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"summary\.csv"):
        read_summary(path)


def test_a_summary_needs_a_row(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        write_summary(tmp_path / "summary.csv", [])
