"""The claims of claims.yaml against numbers and words written down by hand, from the papers' sentences alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from whyadam.studies.claims import Claim, load_claims
from whyadam.studies.judging import judge
from whyadam.studies.summary import SummaryRow

CLAIMS = {claim.name: claim for claim in load_claims()}


def of_seeds(claim: Claim, subject: str, quantity: str, values: Sequence[float]) -> list[SummaryRow]:
    key = {"study": claim.study, "scale": "quick", "subject": subject, "quantity": quantity}
    return [SummaryRow(**key, seed=seed, value=value, tried=5, at_edge=False) for seed, value in enumerate(values)]


THREE_NUMBERS = [
    # Noise in BERT is heavy-tailed: its index lies far below the Gaussian control's.
    ("noise-norms-heavy-on-bert", [0.31, 0.34, 0.29], None, "reproduced"),
    ("noise-norms-heavy-on-bert", [0.98, 1.03, 1.01], None, "contradicted"),
    ("noise-norms-heavy-on-bert", [0.40, 0.66, 0.95], None, "inconclusive"),
    # Noise in a ResNet is concentrated.
    ("noise-norms-concentrated-on-resnet18", [0.98, 1.03, 1.01], None, "reproduced"),
    ("noise-norms-concentrated-on-resnet18", [0.31, 0.34, 0.29], None, "contradicted"),
    # SGD is as good as Adam on a ResNet, be it better or a hundredth of a nat worse.
    ("sgd-as-good-on-resnet18", [0.31, 0.30, 0.33], [0.30, 0.30, 0.32], "reproduced"),
    ("sgd-as-good-on-resnet18", [0.21, 0.20, 0.23], [0.50, 0.51, 0.52], "reproduced"),
    ("sgd-as-good-on-resnet18", [0.91, 0.90, 0.93], [0.30, 0.30, 0.32], "contradicted"),
    # SGD is clearly worse on BERT.
    ("sgd-worse-on-bert", [3.98, 4.01, 3.95], [3.51, 3.52, 3.48], "reproduced"),
    ("sgd-worse-on-bert", [3.51, 3.52, 3.48], [3.51, 3.51, 3.49], "contradicted"),
    ("sgd-worse-on-bert", [3.51, 4.52, 3.18], [3.51, 3.51, 3.49], "inconclusive"),
    # Without clipping the rare large errors of SGD are many times larger.
    ("sgd-fails-under-heavy-tails", [3.2, 3.5, 2.9], [0.10, 0.11, 0.09], "reproduced"),
    ("sgd-fails-under-heavy-tails", [0.13, 0.14, 0.12], [0.10, 0.11, 0.09], "contradicted"),
    # GClip's power of K minus theory's: a rate that is too fast contradicts it as one that is too slow does.
    ("gclip-rate-alpha-1.5", [0.02, 0.03, 0.01], None, "reproduced"),
    ("gclip-rate-alpha-1.5", [0.40, 0.42, 0.41], None, "contradicted"),
    ("gclip-rate-alpha-1.5", [-0.40, -0.42, -0.41], None, "contradicted"),
    # GClip's error over CClip's grows as a power of the dimension.
    ("gclip-loses-with-dimension", [0.33, 0.34, 0.32], None, "reproduced"),
    ("gclip-loses-with-dimension", [0.01, -0.01, 0.00], None, "contradicted"),
    # ACClip ends below Adam; to end level with it is not enough.
    ("acclip-beats-adam-on-bert", [3.40, 3.41, 3.39], [3.51, 3.52, 3.48], "reproduced"),
    ("acclip-beats-adam-on-bert", [3.512, 3.521, 3.48], [3.51, 3.52, 3.48], "contradicted"),
    ("acclip-beats-adam-on-bert", [3.60, 3.61, 3.59], [3.51, 3.52, 3.48], "contradicted"),
    # Exact match is better the higher it is.
    ("acclip-beats-adam-in-exact-match", [0.62, 0.63, 0.61], [0.55, 0.56, 0.54], "reproduced"),
    ("acclip-beats-adam-in-exact-match", [0.55, 0.56, 0.54], [0.62, 0.63, 0.61], "contradicted"),
    # The blocks of a transformer differ more than those of a ResNet.
    ("blocks-differ-more-on-gpt2-than-on-resnet18", [0.40, 0.42, 0.41], [0.10, 0.11, 0.10], "reproduced"),
    ("blocks-differ-more-on-gpt2-than-on-resnet18", [0.10, 0.11, 0.10], [0.10, 0.10, 0.11], "contradicted"),
]


@pytest.mark.parametrize(("name", "left", "right", "word"), THREE_NUMBERS)
def test_three_numbers_and_the_word_for_them(
    name: str, left: Sequence[float], right: Sequence[float] | None, word: str
) -> None:
    claim = CLAIMS[name]
    rows = of_seeds(claim, claim.left or "", claim.quantity or "", left)
    if right is not None:
        rows += of_seeds(claim, claim.right or "", claim.quantity or "", right)
    found = judge(claim, rows, "quick")
    assert (found.verdict, found.samples) == (word, 3)


@pytest.mark.parametrize(
    ("gaps", "word"),
    [
        ([0.01, 0.02, 0.10, 0.15, 0.30, 0.40, 0.55], "reproduced"),
        ([0.55, 0.40, 0.30, 0.15, 0.10, 0.02, 0.01], "contradicted"),
        ([0.30, 0.02, 0.40, 0.10, 0.55, 0.01, 0.15], "inconclusive"),
    ],
)
def test_a_predictor_orders_the_networks_by_their_gap(gaps: Sequence[float], word: str) -> None:
    claim = CLAIMS["js0-predicts-the-gap"]
    rows = [
        row
        for number, gap in enumerate(gaps)
        for quantity, value in (("js0", 0.1 * number), ("gap", gap))
        for row in of_seeds(claim, f"network {number}", quantity, [value - 0.001, value, value + 0.001])
    ]
    assert judge(claim, rows, "quick").verdict == word


AS_GOOD = {
    "sgd-as-good-on-resnet18",
    "sgd-as-good-on-vgg16",
    "signum-near-adam-on-bert",
    "signum-near-adam-on-gpt2",
    "sgd-as-good-on-alike-blocks",
    "sgd-as-good-on-blocks-of-a-convolutional-network",
    "adam-indifferent-to-contrast-last-layer",
    "adam-indifferent-to-contrast-first-layer",
}
"""The comparisons that two equal sides bear out; all others say that one of them is larger."""


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS.values() if claim.right], ids=lambda claim: claim.name)
def test_where_nothing_differs_only_claims_of_equality_hold(claim: Claim) -> None:
    """A sign turned round in a margin would make no difference whatever into evidence."""
    numbers = [0.50, 0.52, 0.54]
    sides = [subject for subject in (claim.left, claim.right) if subject]
    rows = [row for subject in sides for row in of_seeds(claim, subject, claim.quantity or "", numbers)]
    assert judge(claim, rows, "quick").verdict == ("reproduced" if claim.name in AS_GOOD else "contradicted")
