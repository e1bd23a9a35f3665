"""A good run, damaged in one way at a time: exactly the checks that should notice must notice.

The runs are generated from seeds; each damage picks its victim from the same seed. A check that stays green on a
damaged history proves nothing about a real one, and a check that goes red on a neighbour's damage misleads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec
import pytest

from chaos.checkers import Context, judge, standard
from chaos.checkers.model import PlannedFault
from chaos.history.assemble import assemble
from chaos.history.model import Entry
from chaos.history.sketch import Sketch

STORES = ("sqlite", "redis", "graph")
CONTEXT = Context(
    stores=STORES,
    budget_s=10.0,
    hold_s=1.0,
    faults=(PlannedFault("f0", "network.partition"), PlannedFault("f1", "process.kill", lasting=False)),
)
ROUNDS = 12
SEEDS = range(5)


def good_run(rng: Random) -> list[Entry]:
    """Return a run that every check accepts: three clients, a partition, a kill, aborts, and doubts resolved."""
    sketch = Sketch().event("load_started")
    processes = [0, 1, 2]
    committed: dict[str, str] = {}
    doubtful: list[tuple[str, str]] = []
    syncs = 0
    for number in range(ROUNDS):
        if number == 3:
            sketch.begin("f0", "network.partition")
        elif number == 6:
            sketch.end("f0", "network.partition").event("probe", ok=True)
        elif number == 8:
            sketch.begin("f1", "process.kill", lasting=False).event("worker_exited", status=-9)
            for token, outcome in doubtful:
                sketch.resolve(token, outcome)
            sketch.end("f1", "process.kill").event("probe", ok=True)
        tokens = [f"c{client}.{number}" for client in range(3)]
        for process, token in zip(processes, tokens, strict=True):
            sketch.invoke(process, token, f"{rng.randrange(9)}>{rng.randrange(9)}:{token}")
        for client in rng.sample(range(3), 3):
            token = tokens[client]
            mark = str(next(entry.value["mark"] for entry in sketch.entries if entry.token == token))
            # The first client never fails, so that every stretch of the run has acknowledged work.
            draw = rng.random() if client else 1.0
            if number == 7 and client == 2:
                draw = 0.0
            if draw < 0.1 and number < 8:
                sketch.info(processes[client], token)
                processes[client] = 100 + len(sketch.entries)
                doubtful.append((token, "committed" if len(doubtful) % 2 == 0 else "aborted"))
                committed |= {token: mark} if len(doubtful) % 2 else {}
            elif draw < 0.3:
                sketch.fail(processes[client], token)
            else:
                sketch.step("sqlite.committing", token, syncs=syncs)
                syncs += 1
                sketch.step("sqlite.committed", token, syncs=syncs)
                sketch.ok(processes[client], token, applied=not (3 <= number < 6 and rng.random() < 0.5))
                committed[token] = mark
    # One certain abort, late enough to disturb nothing: some damages need one.
    sketch.invoke(900, "dead").fail(900, "dead").event("all_healed").event("load_stopped")
    sketch.agreement(False).agreement(True)
    for _ in range(12):
        sketch.agreement(True, "holding", at=sketch.entries[-1].time_ns / 1e9 + 0.1)
    for occasion in ("final", "reopened"):
        sketch.read_back(occasion, counters={"account.1": 97}, sqlite=committed, redis=committed, graph=committed)
    return sketch.entries


class Run:
    """A run taken apart into plain dictionaries, to be damaged and put together again."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.entries: list[dict[str, Any]] = msgspec.to_builtins(good_run(rng))

    def find(self, kind: str, f: str | None = None) -> list[dict[str, Any]]:
        """Return the entries of a kind, in order."""
        return [entry for entry in self.entries if entry["kind"] == kind and f in (None, entry["f"])]

    def token(self, kind: str) -> str:
        """Draw a token whose transaction ended in `kind`."""
        return str(self.rng.choice([entry["token"] for entry in self.find(kind, "transact")]))

    def resolved(self, outcome: str) -> str:
        """Return a token that recovery settled so."""
        return next(entry["token"] for entry in self.find("ok", "resolve") if entry["value"]["outcome"] == outcome)

    def marks(self, *stores: str, occasions: tuple[str, ...] = ("final", "reopened")) -> Iterator[dict[str, list[str]]]:
        """Yield what these stores held, for each reading."""
        for entry in self.find("ok", "read_back"):
            if entry["value"]["occasion"] in occasions:
                for store in stores:
                    yield entry["value"]["stores"][store]["marks"]

    def delay(self, first: int, by_s: float) -> None:
        """Let everything from the entry at position `first` on happen later."""
        for entry in self.entries[first:]:
            entry["time_ns"] += round(by_s * 1e9)

    def verdicts(self) -> dict[str, str]:
        """Return the checks that are not valid, with their validity."""
        for index, entry in enumerate(self.entries):
            entry["index"] = index
        history = assemble(msgspec.convert(self.entries, list[Entry]))
        return {one.name: one.valid for one in judge(history, standard(), CONTEXT) if one.valid != "valid"}


DAMAGES: dict[str, tuple[Callable[[Run], None], dict[str, str]]] = {}


def damage(**expected: str) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    """Register a damage with the verdicts it must cause; all checks not named must stay valid."""

    def register(function: Callable[[Run], None]) -> Callable[[Run], None]:
        DAMAGES[function.__name__] = (function, expected)
        return function

    return register


@damage(atomic="invalid", durable="invalid")
def acknowledged_mark_missing_in_one_store(run: Run) -> None:
    """A store never got an acknowledged transaction."""
    token, store = run.token("ok"), run.rng.choice(STORES)
    for marks in run.marks(store):
        del marks[token]


@damage(atomic="invalid", durable="invalid")
def resolved_mark_missing_in_two_stores(run: Run) -> None:
    """Recovery called it committed and brought up only one store."""
    token = run.resolved("committed")
    for marks in run.marks(*run.rng.sample(STORES, 2)):
        del marks[token]


@damage(durable="invalid")
def acknowledged_token_lost_everywhere(run: Run) -> None:
    """An acknowledged transaction is nowhere."""
    token = run.token("ok")
    for marks in run.marks(*STORES):
        del marks[token]


@damage(durable="invalid")
def acknowledged_token_lost_at_the_restart(run: Run) -> None:
    """It was there before the restart and nowhere after it."""
    token = run.token("ok")
    for marks in run.marks(*STORES, occasions=("reopened",)):
        del marks[token]


@damage(exactly_once="invalid")
def mark_twice_in_one_store(run: Run) -> None:
    """A store applied a transaction twice."""
    token, store = run.token("ok"), run.rng.choice(STORES)
    for marks in run.marks(store):
        marks[token] *= 2


@damage(exactly_once="invalid")
def counter_off_by_one(run: Run) -> None:
    """A store's total differs although its marks are right."""
    run.rng.choice(run.find("ok", "read_back"))["value"]["stores"]["redis"]["counters"]["account.1"] += 1


@damage(atomic="invalid")
def mark_altered_in_one_store(run: Run) -> None:
    """A store holds another text than was sent."""
    token, store = run.token("ok"), run.rng.choice(STORES)
    for marks in run.marks(store):
        marks[token] = [f"{marks[token][0]}0"]


@damage(atomic="invalid")
def mark_altered_in_every_store(run: Run) -> None:
    """All stores agree on a text that nobody sent."""
    token = run.token("ok")
    for marks in run.marks(*STORES):
        marks[token] = ["9>9:9"]


@damage(atomic="invalid")
def two_marks_swapped_in_one_store(run: Run) -> None:
    """A store mixed up two transactions."""
    first, second = run.rng.sample(sorted(next(run.marks("sqlite"))), 2)
    for marks in run.marks("graph"):
        marks[first], marks[second] = marks[second], marks[first]


@damage(atomic="invalid")
def token_out_of_nothing(run: Run) -> None:
    """Every store holds a transaction that was never sent."""
    for marks in run.marks(*STORES):
        marks["c9.99"] = ["1>2:3"]


@damage(no_zombie="invalid")
def aborted_token_in_every_store(run: Run) -> None:
    """A transaction reported aborted took effect everywhere."""
    token = run.token("fail")
    mark = next(entry["value"]["mark"] for entry in run.find("invoke", "transact") if entry["token"] == token)
    for marks in run.marks(*STORES):
        marks[token] = [mark]


@damage(no_zombie="invalid")
def aborted_token_rises_at_the_restart(run: Run) -> None:
    """A transaction that recovery called dead came back in every store when they were reopened."""
    mark = next(entry["value"]["mark"] for entry in run.find("invoke", "transact") if entry["token"] == "dead")
    for marks in run.marks(*STORES, occasions=("reopened",)):
        marks["dead"] = [mark]


@damage(no_zombie="invalid", atomic="invalid")
def aborted_token_in_one_store(run: Run) -> None:
    """The compensation forgot a store."""
    mark = next(entry["value"]["mark"] for entry in run.find("invoke", "transact") if entry["token"] == "dead")
    for marks in run.marks(run.rng.choice(STORES)):
        marks["dead"] = [mark]


@damage(no_zombie="invalid")
def commit_reported_as_abort(run: Run) -> None:
    """The client was told "aborted" of a transaction that every store holds."""
    entry = run.find("ok", "transact")[-1]
    entry["kind"] = "fail"


@damage(no_zombie="invalid")
def recovery_says_aborted_of_a_commit(run: Run) -> None:
    """Recovery drew the wrong conclusion."""
    token = run.resolved("committed")
    next(entry for entry in run.find("ok", "resolve") if entry["token"] == token)["value"]["outcome"] = "aborted"


@damage(atomic="unknown")
def doubt_never_resolved(run: Run) -> None:
    """Recovery forgot a token."""
    run.entries.remove(run.rng.choice(run.find("ok", "resolve")))


@damage(atomic="unknown", durable="unknown", no_zombie="unknown", exactly_once="unknown")
def never_read_after_the_restart(run: Run) -> None:
    """The run ended before the stores were reopened."""
    del run.entries[-2:]


@damage(landed="unknown", recovered="unknown")
def fault_end_missing(run: Run) -> None:
    """The partition has no end in the history."""
    run.entries.remove(run.find("fault_end", "network.partition")[0])


@damage(landed="unknown")
def fault_landed_on_nothing(run: Run) -> None:
    """A fault bit nobody."""
    run.rng.choice(run.find("fault_end"))["value"]["landed"] = False


@damage(landed="unknown", recovered="unknown")
def fault_never_injected(run: Run) -> None:
    """The kill's moment did not come."""
    for entry in [*run.find("fault_begin", "process.kill"), *run.find("fault_end", "process.kill")]:
        run.entries.remove(entry)


@damage(landed="unknown")
def no_work_during_the_fault(run: Run) -> None:
    """The partition was over before anything was acknowledged."""
    begin = run.entries.index(run.find("fault_begin", "network.partition")[0])
    end = run.find("fault_end", "network.partition")[0]
    run.entries.remove(end)
    end["time_ns"] = run.entries[begin]["time_ns"]
    run.entries.insert(begin + 1, end)


@damage(recovered="invalid")
def first_commit_after_the_heal_too_late(run: Run) -> None:
    """After the partition nothing happened for longer than the budget."""
    run.delay(run.entries.index(run.find("fault_end", "network.partition")[0]) + 1, 10.5)


@damage(recovered="invalid")
def first_commit_after_the_kill_too_late(run: Run) -> None:
    """The worker came back after the budget."""
    run.delay(run.entries.index(run.find("fault_begin", "process.kill")[0]) + 1, 10.5)


@damage(recovered="invalid")
def steady_state_did_not_return(run: Run) -> None:
    """A probe of the steady state gave up after the faults."""
    stopped = run.find("event", "load_stopped")[0]
    value = {"ok": False, "stores": {}, "occasion": "after"}
    probe = {**stopped, "f": "probe", "value": value, "error": "PingAll"}
    run.entries.insert(run.entries.index(stopped) + 1, probe)


@damage(converged="invalid")
def agreement_flips_during_the_hold(run: Run) -> None:
    """The stores fell apart again."""
    looks = [entry for entry in run.find("event", "agreement") if entry["value"]["phase"] == "holding"]
    value = run.rng.choice(looks)["value"]
    value["agreed"] = False
    value["digests"]["redis"] = "other"


@damage(converged="invalid")
def agreement_comes_too_late(run: Run) -> None:
    """The stores agreed after the budget."""
    run.delay(run.entries.index(run.find("event", "agreement")[1]), 10.5)


@damage(converged="unknown")
def hold_cut_short(run: Run) -> None:
    """Nobody watched to the end of the hold time."""
    for entry in run.find("event", "agreement")[6:]:
        run.entries.remove(entry)


@damage(synced="invalid")
def no_sync_within_a_commit(run: Run) -> None:
    """An acknowledged commit saw no sync of the log."""
    token = run.token("ok")
    before, after = (entry for entry in run.find("step") if entry["token"] == token)
    after["value"]["syncs"] = before["value"]["syncs"]


@damage(synced="unknown")
def no_sync_counts(run: Run) -> None:
    """The shim was not there."""
    for entry in run.find("step"):
        entry["value"]["syncs"] = None


@pytest.mark.parametrize("seed", range(20))
def test_an_undamaged_run_satisfies_every_check(seed: int) -> None:
    """The generated run itself is good, so that only the damage can be what is noticed."""
    assert Run(Random(seed)).verdicts() == {}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", DAMAGES)
def test_exactly_the_right_checks_notice(name: str, seed: int) -> None:
    """Every damage is noticed by the checks it concerns, and by no other."""
    function, expected = DAMAGES[name]
    run = Run(Random(seed))
    function(run)
    assert run.verdicts() == expected


def test_every_check_is_put_to_the_test() -> None:
    """No check goes without a damage that it must notice."""
    noticed = {name for _, expected in DAMAGES.values() for name in expected}
    assert noticed == {check.name for check in standard()}
