"""Everything that is done with one recording: replaying it, making its states, looking at them, making them smaller.

One bench belongs to one process; it stands at one boundary of the recording and moves forward cheaply, backward by
beginning again.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec

from chaos.crashpoints import states
from chaos.crashpoints.checker import Checker
from chaos.crashpoints.judge import Judgement, Observation, Outcome, judge
from chaos.crashpoints.model import Disk
from chaos.crashpoints.promises import Promise, promises
from chaos.crashpoints.recipes import KINDS, Recipe
from chaos.crashpoints.snapshot import Tree
from chaos.crashpoints.targets.base import Target
from chaos.faults.disk.oplog import Operation

_CONFIRMED = 4


@dataclass(frozen=True)
class Recording:
    """A workload that ran: the folder before it, the operations that matter, and what was promised before it."""

    start: Tree
    operations: Sequence[Operation]
    first: Promise


class Candidate(msgspec.Struct, frozen=True, array_like=True):
    """A state worth looking at: its content's hash, the number of its promise, how to make it, how bad the crash."""

    digest: bytes
    promise: int
    recipe: str
    rank: int


class Case(msgspec.Struct, frozen=True, array_like=True):
    """A content to look at once, and all ways to come to it that promise different things."""

    digest: bytes
    ways: list[tuple[str, int]]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a case: the worst judgement over its ways, and the recipe that earned it.

    confirmed: a finding was seen in a process that had looked at nothing else, or it is none.
    """

    digest: bytes
    recipe: str
    judgement: Judgement
    seen: Observation
    confirmed: bool = True


class Bench:
    """A recording with a checker."""

    def __init__(self, recording: Recording, target: Target, checker: Checker, *, seed: int, draws: int) -> None:
        """Stand at the beginning. `draws`: how many random states each boundary has."""
        self.recording = recording
        self.target = target
        self.checker = checker
        self.seed = seed
        self.draws = draws
        self.promises = promises(recording.operations, recording.first)
        self.numbers = _numbered(self.promises)
        self._confirmed: Counter[str] = Counter()
        self._ignored = states.ignoring(target.ignored)
        self._disk = Disk(recording.start)
        self._at = 0

    def disk_at(self, boundary: int) -> Disk:
        """Return the model after the first `boundary` operations. Raises LogGap."""
        if boundary < self._at:
            self._disk, self._at = Disk(self.recording.start), 0
        while self._at < boundary:
            self._disk.apply(self._at, self.recording.operations[self._at])
            self._at += 1
        return self._disk

    def tree(self, recipe: Recipe) -> Tree:
        """Return a state. Valid until the bench moves on."""
        disk = self.disk_at(recipe.boundary)
        return states.build(disk, recipe, seed=self.seed).without(self._ignored)

    def candidates(
        self, boundaries: Iterable[int], power_at: Container[int] | None = None
    ) -> tuple[list[Candidate], dict[str, int]]:
        """Return the states of some boundaries, each content once per promise, and how many were made of each kind.

        power_at: the boundaries at which power may be lost; None: all of them. A process may end at each.
        """
        best: dict[tuple[bytes, int], Candidate] = {}
        made = dict.fromkeys(KINDS, 0)
        for boundary in boundaries:
            disk = self.disk_at(boundary)
            for recipe in states.recipes(disk, boundary, seed=self.seed, draws=self.draws):
                if recipe.is_power_loss and power_at is not None and boundary not in power_at:
                    break  # the states of a process crash come first
                made[recipe.kind] += 1
                key = (self.tree(recipe).digest, self.numbers[boundary])
                rank = KINDS.index(recipe.kind)
                if key not in best or rank < best[key].rank:
                    best[key] = Candidate(*key, str(recipe), rank)
        return list(best.values()), made

    def results(self, cases: Sequence[tuple[Case, Sequence[Recipe]]]) -> Iterator[Result]:
        """Look at each case and judge it under each of its promises.

        The first few that show the same thing are confirmed in a process of their own; a store that is broken often
        would be looked at twice nearly always, and learning nothing by it.
        """
        size = max(1, self.target.batch)
        for low in range(0, len(cases), size):
            batch = cases[low : low + size]
            ready = [(self.tree(ways[0]).kept(), self._promise(ways[0])) for _, ways in batch]
            seen = self.checker.check_all(ready)
            for (case, ways), state, observation in zip(batch, ready, seen, strict=True):
                result = self._worst(case, ways, observation)
                if result.judgement.outcome is not Outcome.OK and len(batch) > 1:
                    if self._confirmed[result.judgement.signature] < _CONFIRMED:
                        result = self._worst(case, ways, self.checker.check(*state))
                        self._confirmed[result.judgement.signature] += 1
                    else:
                        result = msgspec.structs.replace(result, confirmed=False)
                yield result

    def observe(self, recipe: Recipe) -> tuple[Observation, Judgement]:
        """Look at one state in a process of its own and judge it."""
        seen = self.checker.check(self.tree(recipe), self._promise(recipe))
        return seen, judge(seen, self._promise(recipe))

    def _promise(self, recipe: Recipe) -> Promise:
        return self.promises[recipe.boundary]

    def _worst(self, case: Case, ways: Sequence[Recipe], seen: Observation) -> Result:
        order = list(Outcome)
        judged = [(judge(seen, self._promise(recipe)), recipe) for recipe in ways]
        judgement, recipe = min(judged, key=lambda pair: order.index(pair[0].outcome))
        return Result(digest=case.digest, recipe=str(recipe), judgement=judgement, seen=seen)


def _numbered(found: Sequence[Promise]) -> list[int]:
    """Number the promises so that those in a row which say the same, whatever the phase, have the same number."""
    numbers = [0]
    for before, after in itertools.pairwise(found):
        numbers.append(numbers[-1] + (replace(before, phase="") != replace(after, phase="")))
    return numbers
