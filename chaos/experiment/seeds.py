"""Seeds as a user writes them: one, a list, or a range."""

from __future__ import annotations

import re

SEED_MAX = 2**63 - 1
SEEDS_MAX = 100_000
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def draw_seed() -> int:
    """Return a seed nobody chose, short enough to read out; the only draw that no seed decides."""
    import secrets  # it loads OpenSSL, which a command line that draws nothing can spare

    return secrets.randbelow(2**32)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read "7", "1,2,3", "1..20" or a mixture of them with commas, in the order written, each seed once.

    Raises ValueError, with the accepted forms, for anything else, for a seed above SEED_MAX, and for more
    than SEEDS_MAX seeds.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        low, high = _bounds(part.strip())
        if high > SEED_MAX or len(seeds) + high - low + 1 > SEEDS_MAX:
            raise ValueError(f"seeds={text!r} must be at most {SEEDS_MAX} seeds, none above {SEED_MAX}")
        seeds.update(dict.fromkeys(range(low, high + 1)))
    return tuple(seeds)


def _bounds(part: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(part)
    if match and int(match[1]) <= int(match[2]):
        return int(match[1]), int(match[2])
    if part.isascii() and part.isdecimal():
        return int(part), int(part)
    raise ValueError(f'seeds={part!r} must be a whole number or a rising range; write "7", "1,2,3" or "1..20"')
