"""Every claim of claims.yaml can be reproduced and contradicted by numbers alone."""

from __future__ import annotations

from functools import partial

import pytest
from whyadam.studies.claims import Claim, load_claims
from whyadam.studies.judging import judge
from whyadam.studies.summary import SummaryRow

CLAIMS = load_claims()


def fulfilling(claim: Claim, sign: int, rows_of: str) -> list[SummaryRow]:
    """Numbers that lie far on the claimed side (``sign`` 1), or as far on the other (−1)."""
    if claim.correlate:
        slope = sign * (1 if claim.claimed == "above" else -1)
        x, y = claim.correlate
        return [
            row
            for subject in range(7)
            for quantity, value in ((x, 1.0 + subject), (y, 20.0 + slope * subject))
            for row in _side(claim, f"network {subject}", quantity, value, rows_of)
        ]
    ratio = claim.compare == "ratio"
    if claim.claimed == "within":
        far = (1.0 if ratio else 0.0) if sign == 1 else 10 * claim.margin
    else:
        upward = sign if claim.claimed == "above" else -sign
        far = claim.margin * 4.0**upward if ratio else claim.margin + upward
    assert claim.left
    assert claim.quantity
    if claim.right is None:
        return _side(claim, claim.left, claim.quantity, far, rows_of)
    left = far * 10.0 if ratio else far + 10.0
    return [
        *_side(claim, claim.left, claim.quantity, left, rows_of),
        *_side(claim, claim.right, claim.quantity, 10.0, rows_of),
    ]


def _side(claim: Claim, subject: str, quantity: str, value: float, rows_of: str) -> list[SummaryRow]:
    row = partial(SummaryRow, study=claim.study, scale="quick", subject=subject, quantity=quantity)
    if rows_of == "intervals":
        return [row(value=value, ci_low=value - 1e-3, ci_high=value + 1e-3, samples=500)]
    values = (value - 1e-3, value, value + 1.1e-3)
    return [row(seed=seed, value=near, tried=5, at_edge=False) for seed, near in enumerate(values)]


@pytest.mark.parametrize("rows_of", ["seeds", "intervals"])
@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.name for claim in CLAIMS])
def test_numbers_and_their_mirror_image_get_opposite_verdicts(claim: Claim, rows_of: str) -> None:
    assert judge(claim, fulfilling(claim, 1, rows_of), "quick").verdict == "reproduced"
    assert judge(claim, fulfilling(claim, -1, rows_of), "quick").verdict == "contradicted"
