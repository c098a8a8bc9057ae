"""Every rule of ours, in each form that takes another path through the code."""

from __future__ import annotations

from functools import partial

import pytest
from whyadam.optimizers import ACClip, CClip, GClip, NormalizedSGD, Signum

FORMS = {
    "gclip": partial(GClip, lr=0.1, clip=2.0),
    "gclip with momentum": partial(GClip, lr=0.02, clip=2.0, momentum=0.9),
    "cclip": partial(CClip, lr=0.1, clip=0.5),
    "cclip with momentum": partial(CClip, lr=0.02, clip=0.5, momentum=0.9),
    "acclip": partial(ACClip, lr=0.1),
    "acclip with alpha 1.5": partial(ACClip, lr=0.1, alpha=1.5, betas=(0.8, 0.95), eps=1e-3),
    "acclip_rms": partial(ACClip, lr=0.01, alpha=2.0, second_moment=True),
    "acclip_rms with alpha 1.5": partial(ACClip, lr=0.01, alpha=1.5, second_moment=True),
    "signum": partial(Signum, lr=0.01),
    "signum without momentum": partial(Signum, lr=0.01, momentum=0.0),
    "normalized_sgd": partial(NormalizedSGD, lr=0.05),
    "normalized_sgd without momentum": partial(NormalizedSGD, lr=0.05, momentum=0.0),
}


@pytest.fixture(params=FORMS)
def form(request) -> str:
    """The name of one rule in one form."""
    return request.param


@pytest.fixture
def make(form):
    """That rule as a function of the parameters and further keyword arguments."""
    return FORMS[form]
