"""The verdicts in the documents are those that the committed summaries give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import whyadam
from whyadam.studies.claims import load_claims
from whyadam.studies.judging import Verdict, judge_all
from whyadam.studies.summary import read_summaries
from whyadam.studies.verdict_tables import verdict_table

ROOT = Path(whyadam.__file__).parent


@pytest.fixture(scope="module")
def verdicts() -> list[Verdict]:
    return judge_all(load_claims(), read_summaries(sorted((ROOT / "docs" / "summaries").glob("*.csv"))))


def test_results_page_has_every_verdict(verdicts: list[Verdict]) -> None:
    """A verdict written by hand, or left over from an older measurement or an older claim."""
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    missing = [line for line in verdict_table(verdicts).markdown().splitlines() if line not in page]
    assert not missing


def test_readme_says_the_same(verdicts: list[Verdict]) -> None:
    """The README's short table must not drift from the page that it sums up."""
    known = {verdict.claim.statement: verdict for verdict in verdicts}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+) \| \*{0,2}(reproduced|contradicted|inconclusive)\*{0,2} \| (.*) \|$", readme, re.M)
    assert len(rows) >= 10
    for statement, word, effect in rows:
        assert known[statement].verdict == word
        shown = verdict_table([known[statement]]).rows[0][3]
        assert effect == shown
