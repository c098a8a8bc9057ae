"""``whyadam verify``: what it prints and writes, where it looks, and its exit codes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner
from whyadam.cli import app
from whyadam.errors import UserError
from whyadam.studies.run import newest_summaries
from whyadam.studies.summary import SummaryRow, read_summary, write_summary

KNOWN = ("curves", "quick", 0)

CLAIMS = """
- name: sgd-worse
  claim: paper 3
  statement: On BERT, SGD with momentum ends clearly above Adam, each at its best learning rate | and so on.
  study: curves
  quantity: loss
  left: sgd
  right: adam
  claimed: above
  margin: 0.05
  unit: nats
- name: sgd-slower
  claim: paper 4
  statement: SGD needs more time.
  study: times
  quantity: seconds
  left: sgd
  compare: value
  claimed: above
  margin: 1.0
"""


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIMS)
    return path


def summary(path: Path, sgd: float, scale: str = "quick", **stamp: str) -> Path:
    """Losses of three seeds of SGD and of Adam, whose loss is 5."""
    key = {"study": "curves", "scale": scale, "quantity": "loss", "unit": "nats"}
    rows = [
        SummaryRow(**key, subject=subject, seed=seed, value=value + seed / 1000, tried=5, at_edge=False, **stamp)
        for subject, value in (("sgd", sgd), ("adam", 5.0))
        for seed in range(3)
    ]
    write_summary(path, rows)
    return path


def finished(folder: Path, sgd: float, scale: str = "quick", state: str = "done", **stamp: str) -> Path:
    summary(folder / "summary.csv", sgd, scale, **stamp)
    (folder / "status.json").write_text(json.dumps({"study": "curves", "scale": scale, "state": state}))
    return folder


def verify(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and output; a mistake of the user's is raised."""
    answer = CliRunner().invoke(app, ["verify", *map(str, arguments)])
    if isinstance(answer.exception, UserError):
        raise answer.exception
    return answer.exit_code, answer.output


def cells(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell.strip()]


def test_the_table(claims: Path, tmp_path: Path) -> None:
    code, output = verify(summary(tmp_path / "a.csv", sgd=5.3), "--claims", claims)
    heading, _, first, second, _, count = output.splitlines()
    assert code == 0
    assert heading.split()[:3] == ["verdict", "claim", "statement"]
    assert [cell.strip() for cell in cells(first)] == [
        "reproduced",
        "sgd-worse",
        "On BERT, SGD with momentum ends clearly above Ada…",
        "0.3 (0.3 to 0.3) nats",
        "> 0.05 nats",
        "3 seeds",
        "5",
        "quick",
        "paper 3",
    ]
    assert [cell.strip() for cell in cells(second)][-1] == "no summary of times"
    assert count == "1 reproduced, 0 contradicted, 1 inconclusive"


def test_markdown_has_whole_statements(claims: Path, tmp_path: Path) -> None:
    _, output = verify(summary(tmp_path / "a.csv", sgd=5.3), "--claims", claims, "--markdown")
    assert output.splitlines()[0].startswith("| verdict | claim | statement |")
    assert "at its best learning rate \\| and so on. |" in output


def test_the_csv_has_all_digits(claims: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "verdicts.csv"
    verify(summary(tmp_path / "a.csv", sgd=4.9), "--claims", claims, "--out", out)
    with out.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["name"], first["verdict"], first["tried"], first["sampled"]) == (
        "sgd-worse",
        "contradicted",
        "5",
        "seeds",
    )
    assert float(first["effect"]) == pytest.approx(-0.1, abs=1e-12)
    assert (second["effect"], second["reason"]) == ("", "no summary of times")


@pytest.mark.parametrize(
    ("sgd", "more", "code"), [(5.3, ["--study", "curves"], 0), (4.9, ["--study", "curves"], 4), (5.3, [], 4)]
)
def test_strict_wants_every_claim_reproduced(
    sgd: float, more: Sequence[str], code: int, claims: Path, tmp_path: Path
) -> None:
    assert verify(summary(tmp_path / "a.csv", sgd), "--claims", claims, "--strict", *more)[0] == code


def test_finished_studies_are_found_and_the_newest_of_each_scale_counts(claims: Path, tmp_path: Path) -> None:
    new = finished(tmp_path / "curves" / "quick-seed0-new", sgd=5.3, made="2026-12-01T10:00:00+00:00")
    os.utime(new / "status.json", (1, 1))
    finished(tmp_path / "curves" / "quick-seed0-old", sgd=4.9, made="2026-11-30T23:00:00+00:00")
    finished(tmp_path / "curves" / "quick-seed0-undated", sgd=4.9)
    finished(tmp_path / "curves" / "quick-seed0-failed", sgd=4.9, made="2026-12-02T10:00:00+00:00", state="failed")
    finished(tmp_path / "curves" / "gpu-seed0-new", sgd=4.9, scale="gpu")
    finished(tmp_path / "curves" / "paper-seed0-new", sgd=4.9, scale="paper", state="interrupted")
    _, output = verify("--runs", tmp_path, "--claims", claims, "--study", "curves")
    found = [(line.split()[0], [cell.strip() for cell in cells(line)][7]) for line in output.splitlines()[2:4]]
    assert sorted(found) == [("contradicted", "gpu"), ("reproduced", "quick")]
    assert output.splitlines()[-1] == "1 reproduced, 1 contradicted, 0 inconclusive"
    _, output = verify("--runs", tmp_path, "--claims", claims, "--study", "curves", "--scale", "gpu")
    assert output.splitlines()[-1] == "0 reproduced, 1 contradicted, 0 inconclusive"


def test_a_study_of_the_present_settings_counts_before_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results of settings that have been changed since, taken because they were made (or copied) later."""
    monkeypatch.setattr("whyadam.studies.run._present_digests", lambda *study: ["0000aaaa"] * (study == KNOWN))
    present = finished(tmp_path / "a", sgd=5.3, settings="0000aaaa", made="2026-11-30T23:00:00+00:00")
    other = finished(tmp_path / "b", sgd=4.9, settings="0000bbbb", made="2026-12-01T10:00:00+00:00")
    assert newest_summaries([other, present]) == [present / "summary.csv"]
    (present / "status.json").write_text(json.dumps({"study": "curves", "scale": "quick", "state": "failed"}))
    assert newest_summaries([present, other]) == [other / "summary.csv"]


def test_two_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    folders = [finished(tmp_path / name, sgd=5.3) for name in ("a", "b")]
    with pytest.raises(UserError, match=r"a/summary\.csv and .*b/summary\.csv: both are of curves at scale quick"):
        newest_summaries(folders)


def test_missing_runs_make_a_verdict_inconclusive_and_are_named(claims: Path, tmp_path: Path) -> None:
    path = summary(tmp_path / "a.csv", 5.3)
    missing = [SummaryRow.of_missing_run("curves", "quick", "adam", seed, "failed") for seed in (3, 4)]
    write_summary(path, [*read_summary(path), *missing])
    _, output = verify(path, "--claims", claims, "--study", "curves", "--markdown")
    assert output.splitlines()[-1] == "0 reproduced, 0 contradicted, 1 inconclusive"
    assert "0.3 (0.3 to 0.3) nats" in output
    assert "missing runs: adam, seeds 3, 4 (failed)" in output
    missing = [SummaryRow.of_missing_run("curves", "quick", "signum", 3, "failed")]
    write_summary(path, [*read_summary(path)[:-2], *missing])
    _, output = verify(path, "--claims", claims, "--study", "curves")
    assert output.splitlines()[-1] == "1 reproduced, 0 contradicted, 0 inconclusive"


def test_mistakes_are_one_line(claims: Path, tmp_path: Path) -> None:
    first, second = summary(tmp_path / "a.csv", 5.3), summary(tmp_path / "b.csv", 5.3)
    with pytest.raises(UserError, match=r"b\.csv: .*a\.csv is of curves at scale quick too"):
        verify(first, second)
    with pytest.raises(UserError, match="--study curvs: no claim is about it; did you mean curves"):
        verify(first, "--claims", claims, "--study", "curvs")
    with pytest.raises(UserError, match="no summary at scale gpu of a finished study"):
        verify(first, "--claims", claims, "--scale", "gpu")
    with pytest.raises(UserError, match=r"nothing\.csv cannot be read"):
        verify(tmp_path / "nothing.csv")
    with pytest.raises(UserError, match="no summary of a finished study in"):
        verify("--runs", tmp_path)


def test_from_the_shell_with_the_papers_claims(tmp_path: Path) -> None:
    """The shipped claims are part of the package; a mistake ends in exit code 2."""
    command = [sys.executable, "-m", "whyadam.cli", "verify"]
    summary(tmp_path / "a.csv", 5.3)
    answer = subprocess.run([*command, "a.csv"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "sgd-worse-on-bert" in answer.stdout
    wrong = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1
