"""The seed tree: one number at the root, an independent stream for every name below it."""

from __future__ import annotations

import hashlib
from random import Random


def stream(seed: int, *names: str | int) -> Random:
    """Return the random stream of the node `names` below `seed`.

    The same seed and names give the same stream on every machine and Python version (SHA-256 seeds the
    Mersenne Twister). Streams of different names are independent: drawing from one never moves another, so
    a fault that is added does not change what the clients do.
    """
    path = "/".join(str(part) for part in (seed, *names))
    return Random(int.from_bytes(hashlib.sha256(path.encode()).digest(), "big"))
