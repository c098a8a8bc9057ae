"""The studies of the synthetic lab at their smallest scale, from the shell to their files, and started again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from whyadam.errors import UserError
from whyadam.files import read_csv, write_csv
from whyadam.studies.coded import clipping_rates, lower_bound
from whyadam.studies.coded.tuned_runs import Parts
from whyadam.studies.run import known_studies, run_study

TABLES = {
    "clipping_rates": {"errors.csv", "slopes.csv"},
    "dimension": {"ratios.csv", "slopes.csv"},
    "lower_bound": {"errors.csv", "slopes.csv"},
    "quadratics": {"constants.csv", "iterations.csv"},
}
PICTURES = {
    "clipping_rates": {"errors", "slopes"},
    "dimension": {"ratios"},
    "lower_bound": {"errors"},
    "quadratics": {"iterations"},
}


@pytest.mark.parametrize("name", TABLES)
def test_a_study_leaves_its_tables_and_pictures(name: str, tmp_path: Path) -> None:
    result = run_study(name, "tiny", 0, tmp_path)
    pictures = {f"{picture}.{kind}" for picture in PICTURES[name] for kind in ("png", "pdf", "svg")}
    assert {path.name for path in result.files} == TABLES[name] | pictures | {"summary.csv"}
    for table in TABLES[name]:
        rows = read_csv(result.folder / table)
        numbers = [value for row in rows for value in row.values() if isinstance(value, float)]
        assert numbers
        assert not any(value != value for value in numbers), "NaN"


def test_the_command_prints_the_files_and_knows_when_it_is_done(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "whyadam.cli", "reproduce", "lower_bound", "--scale", "tiny", "--out", "here"]
    answers = [subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path) for _ in range(2)]
    first, *files = answers[0].stdout.splitlines()
    assert first.endswith(": done")
    assert answers[1].stdout.splitlines() == [first.replace(": done", ": was already done"), *files]
    assert all((tmp_path / file).exists() for file in files)


def test_the_list_has_a_line_for_each_study() -> None:
    command = [sys.executable, "-m", "whyadam.cli", "reproduce", "--list"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in answer.stdout.splitlines()] == known_studies()


@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        ("dimensions", "tiny", "study dimensions is not known; did you mean dimension"),
        ("dimension", "huge", "--scale huge: dimension has tiny, quick, paper"),
    ],
)
def test_a_wrong_name_is_one_line(name: str, scale: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=expected):
        run_study(name, scale, 0, tmp_path)


def test_an_interrupted_study_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two parts is interrupted; the first is not computed again."""
    two = lower_bound.SCALES["tiny"].model_copy(update={"alphas": (1.2, 1.5)})
    monkeypatch.setitem(lower_bound.SCALES, "tiny", two)
    whole = run_study("lower_bound", "tiny", 0, tmp_path / "whole")
    computed: list[float] = []
    compute = lower_bound._measure

    def interrupted(settings: lower_bound.LowerBound, alpha: float, seed: int) -> list[dict[str, object]]:
        computed.append(alpha)
        if computed == [1.2, 1.5]:
            raise KeyboardInterrupt
        return compute(settings, alpha, seed)

    monkeypatch.setattr(lower_bound, "_measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study("lower_bound", "tiny", 0, tmp_path / "cut")
    cut = run_study("lower_bound", "tiny", 0, tmp_path / "cut")
    assert computed == [1.2, 1.5, 1.5]
    assert not cut.was_finished
    for table in TABLES["lower_bound"]:
        assert (cut.folder / table).read_bytes() == (whole.folder / table).read_bytes()


def test_other_settings_and_other_seeds_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {run_study("lower_bound", "tiny", seed, tmp_path).folder for seed in (0, 1)}
    changed = lower_bound.SCALES["tiny"].model_copy(update={"trials": 100})
    monkeypatch.setitem(lower_bound.SCALES, "tiny", changed)
    again = run_study("lower_bound", "tiny", 0, tmp_path)
    assert not again.was_finished
    assert len(folders | {again.folder}) == 3


def test_parts_are_read_back_to_the_last_bit(tmp_path: Path) -> None:
    rows = [{"name": "a", "value": 0.1 + 0.2, "count": 3, "nothing": None, "endless": float("inf"), "so": True}]
    parts = Parts(tmp_path)
    first = parts.rows("one", lambda: rows)
    again = parts.rows("one", lambda: pytest.fail("computed twice"))
    assert first == again == rows


def test_a_table_is_whole_or_not_there(tmp_path: Path) -> None:
    """A row that cannot be written leaves the old table as it was."""
    path = tmp_path / "table.csv"
    write_csv(path, [{"a": 1}])
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        write_csv(path, [{"a": 1}, {"b": 2}])
    assert read_csv(path) == [{"a": 1}]


def test_gclip_keeps_the_rate_of_the_theorem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small version of the study's own claim: within 0.1 of theory at α = 1.5, and fewer large errors than SGD."""
    small = clipping_rates.SCALES["tiny"].model_copy(
        update={"trials": 1_000, "steps": 2_000, "first": 100, "checkpoints": 5, "more_alphas": ()}
    )
    monkeypatch.setitem(clipping_rates.SCALES, "tiny", small)
    folder = run_study("clipping_rates", "tiny", 0, tmp_path).folder
    slopes = {
        (row["problem"], row["rule"], row["statistic"]): row["value"] - row["theory"]
        for row in read_csv(folder / "slopes.csv")
    }
    assert abs(slopes["symmetric", "gclip", "mean"]) < 0.1
    errors = {
        (row["rule"], row["statistic"]): row["value"]
        for row in read_csv(folder / "errors.csv")
        if (row["problem"], row["steps"]) == ("symmetric", 2_000)
    }
    assert errors["sgd", "quantile_99"] > 3 * errors["gclip", "quantile_99"]
    assert errors["sgd", "mean"] > 3 * errors["gclip", "mean"]
