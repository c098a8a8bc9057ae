"""Independent random streams from one seed, split by what they are for.

A stream is named by an axis (``"init"``, ``"order"``, ``"dropout"`` …) and counters (epoch, step, example), never
by what was drawn before. So no stream can disturb another, a resumed run needs no saved generator, and the number
of workers changes nothing.
"""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, axis: str, *counters: int) -> int:
    """A 63-bit seed for one stream.

    Args:
        seed: the experiment's seed.
        axis: what the stream is for.
        counters: where in the run: epoch, step, example …
    """
    text = "/".join([str(seed), axis, *map(str, counters)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
