"""The claims file: the shipped one is sound, and a mistake is named by file, claim and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from whyadam.configs.load import ConfigError
from whyadam.studies.claims import Claim, load_claims
from whyadam.studies.judging import judge
from whyadam.studies.run import STUDIES, study_files
from whyadam.studies.summary import read_summaries

COMMITTED = sorted((Path(__file__).parents[2] / "docs" / "summaries").glob("*.csv"))

GOOD = """
- name: sgd-worse
  claim: clipping 3
  statement: SGD ends above Adam.
  study: curves
  quantity: loss
  left: sgd
  right: adam
  claimed: above
  margin: 0.05
"""


def test_every_shipped_claim_is_about_a_study_that_exists() -> None:
    unknown = {claim.study for claim in load_claims()} - {*STUDIES, *study_files()}
    assert not unknown


def test_every_claim_of_both_papers_is_there() -> None:
    claims = [claim.claim for claim in load_claims()]
    for number in range(1, 7):
        assert any(claim.startswith(f"clipping {number}") for claim in claims)
    for number in range(1, 5):
        assert any(claim.startswith(f"hessian {number}") for claim in claims)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_summaries_have_what_the_claims_name(path: Path) -> None:
    """A claim about a subject that no study has would be inconclusive for ever."""
    rows = read_summaries([path])
    for claim in load_claims():
        if claim.study == rows[0].study:
            assert "the summary has no" not in judge(claim, rows, rows[0].scale).reason


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("margin: 0.05", "margin: a little"), "claim sgd-worse: margin: should be a valid number"),
        (("margin: 0.05", "margin: .inf"), "claim sgd-worse: margin: should be a finite number"),
        (("claimed: above", "claimed: abov"), "claim sgd-worse: claimed: 'abov' is not one of above, below, within"),
        (("left: sgd", "lefft: sgd"), "claim sgd-worse: lefft: unknown key; did you mean left"),
        (("  left: sgd\n", ""), "claim sgd-worse: quantity: give quantity and left, or correlate"),
        (("  right: adam\n", ""), "claim sgd-worse: right: give it where two subjects are compared"),
        (("claimed: above", "compare: value\n  claimed: above"), "claim sgd-worse: right: give it where"),
        (("claimed: above", "correlate: [js0, gap]\n  claimed: above"), "correlate: leave out left, quantity, right"),
        (("margin: 0.05", "margin: 0"), None),
        (("claimed: above\n  margin: 0.05", "claimed: within\n  margin: 0"), "margin: within needs one above 0"),
        (
            ("claimed: above\n  margin: 0.05", "compare: ratio\n  claimed: within\n  margin: 1"),
            "margin: within needs one above 0, and above 1 for a ratio",
        ),
        (("name: sgd-worse", "name: ''"), "name: string should have at least 1 character"),
        (("  statement: SGD ends above Adam.\n", ""), "claim sgd-worse: statement: missing"),
        (("margin: 0.05", "margin: 0.05\n  margin: 0.1"), "the key margin is given twice"),
        ((GOOD, "claims: []"), "should be a list of claims"),
        (("- name: sgd-worse", "- sgd-worse\n- name: sgd-worse"), "claim 1: "),
    ],
)
def test_mistakes_are_named(change: tuple[str, str], expected: str | None, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert change[0] in GOOD
    path.write_text(GOOD.replace(*change))
    if expected is None:
        assert load_claims(path)[0].margin == 0
        return
    with pytest.raises(ConfigError) as caught:
        load_claims(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_two_claims_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD + GOOD)
    with pytest.raises(ConfigError, match="claim sgd-worse: there are two of this name"):
        load_claims(path)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"claimed": "above", "margin": 2.0}, (2.0, float("inf"))),
        ({"claimed": "below", "margin": -0.5}, (float("-inf"), -0.5)),
        ({"claimed": "within", "margin": 0.5}, (-0.5, 0.5)),
        ({"claimed": "within", "margin": 2.0, "compare": "ratio"}, (0.5, 2.0)),
    ],
)
def test_the_claimed_side(keys: dict[str, object], expected: tuple[float, float]) -> None:
    texts = dict.fromkeys(("name", "claim", "statement", "study", "quantity", "left", "right"), "text")
    assert Claim.model_validate(texts | keys).on_claimed_side == expected
