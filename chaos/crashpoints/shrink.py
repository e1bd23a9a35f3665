"""Finding the smallest thing that has to be missing from the disk for a finding to show."""

from __future__ import annotations

import time

from chaos.crashpoints import states
from chaos.crashpoints.bench import Bench
from chaos.crashpoints.content import Missing
from chaos.crashpoints.judge import Outcome
from chaos.crashpoints.names import View
from chaos.crashpoints.recipes import Recipe, explicit

LOOKS_MAX = 120
SECONDS_MAX = 15.0


def shrink(bench: Bench, recipe: Recipe, outcome: Outcome, *, looks: int = LOOKS_MAX) -> Recipe:
    """Return a state with the same outcome, at the same boundary, that lacks as few operations as could be found.

    Delta debugging over the missing operations: halves first, then smaller groups, then what only misses in part is
    left as it is. A state that the view does not allow is no candidate. At most `looks` states are opened, for 15 s in
    all; the best one so far is returned then. What a process crash leaves lacks nothing, and is returned as it is.
    """
    if not recipe.is_power_loss:
        return recipe
    view = recipe.view or View.EXT4
    disk = bench.disk_at(recipe.boundary)
    lost = dict(states.missing(disk, recipe, seed=bench.seed))
    budget = _Budget(looks)

    def _shows(candidate: Missing) -> bool:
        if not states.legal(disk, view, candidate) or not budget.take():
            return False
        return bench.observe(explicit(recipe.boundary, view, candidate))[1].outcome is outcome

    groups = 2
    while len(lost) > 1 and budget.left:
        keys = sorted(lost)
        size = -(-len(keys) // groups)
        for low in range(0, len(keys), size):
            back = set(keys[low : low + size])
            smaller = {key: ranges for key, ranges in lost.items() if key not in back}
            if _shows(smaller):
                lost, groups = smaller, max(2, groups - 1)
                break
        else:
            if groups >= len(keys):
                break
            groups = min(len(keys), groups * 2)
    return explicit(recipe.boundary, view, lost)


class _Budget:
    """The looks that are left, and the time for them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._deadline = time.monotonic() + SECONDS_MAX

    @property
    def left(self) -> bool:
        """Whether there is one more."""
        return self._count > 0 and time.monotonic() < self._deadline

    def take(self) -> bool:
        """Use one up; False when there is none."""
        left = self.left
        self._count -= 1
        return left
