"""The error sweep: call 1, 2, 3 ... of each kind fails, once and for good, and the store must cope.

The workload runs anew for each call, under the shim, with one rule. It goes on after a step that failed, as programs
do, so that a store which is broken by the first error is seen to be. When it has ended, or was killed after its time,
the folder is opened in a fresh process and held against the promise: what was acknowledged is there, what failed is
there whole or not at all. A call that fails without anybody noticing is *absorbed*, which is fine when the data are.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from chaos.crashpoints import snapshot
from chaos.crashpoints.checker import Checker
from chaos.crashpoints.judge import Judgement, Observation, Outcome, judge
from chaos.crashpoints.pool import Pool, Serve
from chaos.crashpoints.promises import promises
from chaos.crashpoints.recording import NoVerdict, first_promise, run_recorded
from chaos.crashpoints.targets.base import Target
from chaos.faults.disk.oplog import Operation

KINDS = ("open", "read", "write", "sync", "truncate", "allocate", "rename", "unlink", "mkdir")
HOW = {"once": 1, "for-good": 0}
"""How long calls fail, with the count of the shim's rule."""

_RULE = "sweep"
_ERROR = "EIO"
_WORK_S = 20.0


class Call(msgspec.Struct, frozen=True):
    """Call number `nth` of a kind fails; `how` is "once", or "for-good" with all of its kind that follow."""

    kind: str
    nth: int
    how: str

    def __str__(self) -> str:
        """Return the word that `parse` reads."""
        return f"{self.kind}:{self.nth}:{self.how}"


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one call. fired: how many calls failed. noticed: whether a step of the workload failed."""

    call: Call
    fired: int
    noticed: bool
    judgement: Judgement
    words: str = ""


def parse(text: str) -> Call:
    """Read a word such as `write:17:once`. Raises ValueError."""
    kind, _, rest = text.partition(":")
    nth, _, how = rest.partition(":")
    if kind not in KINDS or how not in HOW or not nth.isdigit() or not int(nth):
        raise ValueError(f"call={text!r} must look like write:17:once; kinds are {', '.join(KINDS)}")
    return Call(kind, int(nth), how)


class Sweeper:
    """Runs the workload with failing calls, in a folder of its own."""

    def __init__(self, target: Target, folder: Path, *, limit_s: float | None) -> None:
        """Make the folder; nothing runs yet."""
        self._target = target
        self._folder = folder
        self._checker = Checker(target, folder, limit_s=limit_s)
        self.data = folder / "data"

    def counts(self) -> dict[str, int]:
        """Run the workload without a failure and return how many calls of each kind it makes.

        Raises NoVerdict when a step fails even so.
        """
        rules = {kind: {"action": "count", "calls": kind} for kind in KINDS}
        _, status, words, fired = self._run(rules)
        if status != 0:
            raise NoVerdict(f"the workload fails without any failing call, status {status}: {words}")
        return fired

    def fail(self, call: Call) -> Failed:
        """Run the workload with one failing call, and judge what is left in `data`."""
        rule = {"action": "errno", "error": _ERROR, "calls": call.kind, "nth": call.nth, "count": HOW[call.how]}
        operations, status, words, fired = self._run({_RULE: rule})
        promise = promises(operations, first_promise(self._target))[-1]
        if status is None:
            seen = Observation(hung=f"the workload did not end within {_WORK_S:g} s")
        elif status < 0:
            seen = Observation(killed=f"the workload ended by signal {-status}: {words[-200:]}")
        else:
            seen = self._checker.check(snapshot.read(self.data), promise)
        judgement = judge(seen, promise)
        return Failed(call=call, fired=fired[_RULE], noticed=status != 0, judgement=judgement, words=words[-300:])

    def _run(
        self, rules: Mapping[str, Mapping[str, object]]
    ) -> tuple[list[Operation], int | None, str, dict[str, int]]:
        work = self._folder / "recording"
        shutil.rmtree(work, ignore_errors=True)
        snapshot.clear(self.data)
        self._target.prepare(self.data)
        command = self._target.command("persevere", self.data)
        fired: dict[str, int] = {}
        operations, status, words = run_recorded(command, self.data, work, limit_s=_WORK_S, rules=rules, fired=fired)
        return operations, status, words, fired


def chosen(counts: dict[str, int], budget: int) -> list[Call]:
    """Return the calls to fail: all, or an even sample of each kind when there are more than the budget allows.

    Behind the last call of a kind one more is tried, which must not be hit.
    """
    present = {kind: count for kind, count in counts.items() if count}
    share = max(2, budget // max(1, 2 * len(present)))
    calls = []
    for kind, count in present.items():
        step = max(1, -(-count // share))
        for nth in (*range(1, count + 1, step), count + 1):
            calls += [Call(kind, nth, how) for how in HOW]
    return calls


def sweep(
    target: Target, folder: Path, *, jobs: int, budget: int, limit_s: float | None, tell: Callable[[str], None]
) -> Iterator[tuple[dict[str, int], Failed]]:
    """Yield what came of each call, with the number of calls of each kind. Raises NoVerdict as `counts` does."""
    with Pool(jobs, lambda number: _worker(target, folder / f"sweep-{number}", limit_s)) as pool:
        [(_, counts)] = pool.run(["count"])
        calls = chosen(counts, budget)
        total = sum(counts.values())
        tell(f"{total} calls: {', '.join(f'{count} {kind}' for kind, count in counts.items() if count)}")
        for _, failed in pool.run(calls):
            yield counts, failed


PLACE = "sweep-0"
"""Where `once` works, below its folder; what the workload left is in `data` there."""


def once(target: Target, folder: Path, call: Call, *, limit_s: float | None) -> Failed:
    """Let one call fail."""
    with Pool(1, lambda _: _worker(target, folder / PLACE, limit_s)) as pool:
        [(_, failed)] = pool.run([call])
    assert isinstance(failed, Failed)
    return failed


def _worker(target: Target, folder: Path, limit_s: float | None) -> Serve:
    target.preload(folder / "preload")
    sweeper = Sweeper(target, folder, limit_s=limit_s)

    def _serve(request: object) -> object:
        return sweeper.fail(request) if isinstance(request, Call) else sweeper.counts()

    return _serve


def worst(failures: Sequence[Failed]) -> list[tuple[Failed, int]]:
    """Gather the failures that broke a promise by what they show: an example of each, and how many there are."""
    groups: dict[str, list[Failed]] = {}
    for failed in failures:
        if failed.judgement.outcome is not Outcome.OK:
            groups.setdefault(f"{failed.call.kind} {failed.judgement.signature}", []).append(failed)
    order = list(Outcome)
    found = []
    for members in groups.values():
        example = min(members, key=lambda one: (HOW[one.call.how] == 0, one.call.nth))
        found.append((example, len(members)))
    return sorted(found, key=lambda pair: order.index(pair[0].judgement.outcome))
