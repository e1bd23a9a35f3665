"""The record of a run: entries, and the images of stores that a read-back returns.

Terms follow Jepsen's: an operation is an invoke and then exactly one of ok, fail or info by the same process;
`ok` took effect, `fail` certainly did not, `info` may have and may yet. Faults have kinds of their own.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Kind = Literal["invoke", "ok", "fail", "info", "step", "fault_begin", "fault_end", "event"]
"""invoke/ok/fail/info: an operation · step: a phase inside a transaction · fault_*: the nemesis · event: the rest."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One line of history.jsonl.

    index: 0-based position in the file, without gaps. time_ns: monotonic nanoseconds since the run began.
    process: number of the logical client, None for the harness. f: what was done (table below).
    token: the transaction it belongs to. fault: id of the fault it belongs to ("f0", "f1" ...).

    | f | kinds | value (absent fields have the defaults of `chaos.history.values`) |
    |---|---|---|
    | transact | invoke | {"mark": str, ...}: the text each store must hold for the token, and what the workload drew |
    | transact | ok | {"csn": int, "applied": bool, "reads": [`Read`]}; applied False: some store is still behind |
    | transact | fail, info | error says why; info is in doubt; {"refused": true}: by a rule of the workload |
    | resolve | ok | {"outcome": "committed" or "aborted"}: recovery settled the token of an earlier info |
    | read_back | invoke | {"occasion": "final" or "reopened"} |
    | read_back | ok | {"occasion": ..., "stores": {store: `StoreImage` as an object}} |
    | <phase name> | step | {"store": str or None, "syncs": int or None}: syncs of the commit log the shim saw so far |
    | <fault kind> | fault_begin | {"store": str, "arguments": {...}, "lasting": bool, ...} |
    | <fault kind> | fault_end | {"evidence": {...}, "landed": bool} |
    | probe | event | {"ok": bool, "stores": {store: bool}, "occasion": "before", "after", "health" or "healed"} |
    | load_started, load_stopped, all_healed | event | {} |
    | server_exited, server_started | event | {"status": int} / {"pid": int}: the Redis-compatible server |
    | worker_supplanted | event | {}: it was stopped, and another is started in its place |
    | worker_hung | event | {"silent_s": float}: it was killed for not having said anything for so long |
    | system_gone | event | {}: with every fault healed no worker could open the stores any more; error says why |
    | worker_exited, worker_opened | event | {"status": int} / {"attempt": int, "seconds": float} |
    | sample | event | {"worker_resident_bytes": int, ..., "pools": [...]}: see `chaos.runner.sampling` |
    | agreement | event | {"agreed": bool, "digests": {store: str}, "phase": "converging" or "holding"} |

    The error of a probe is the name of the steady state's probe that was given up; that of a fault_end says why
    the fault could not be applied.
    """

    # gc=False: entries are plain JSON, which has no cycles, and a history may hold millions of them.
    index: int
    time_ns: int
    kind: Kind
    f: str
    process: int | None = None
    token: str | None = None
    fault: str | None = None
    value: Any = None
    error: str | None = None


class Read(msgspec.Struct, frozen=True):
    """What a transaction read of one object, before its own writes.

    store: where it looked. key: the object's name, the same in all stores. writers: tokens of the transactions that
    had written it, oldest first. whole: False when only the last one can be seen, as in a register.
    """

    store: str
    key: str
    writers: list[str]
    whole: bool = True


class StoreImage(msgspec.Struct, frozen=True, kw_only=True):
    """What one store holds.

    marks: every mark by token, twice in the list when applied twice. counters: named totals; None where the store
    has lost it, or has something there that is no number. refused: by token, what the store would not take of a
    transaction that it counts as applied, in its own words. order: by object, the tokens of the transactions that wrote
    it, in the order in which this store has them. broken: in a sentence each, where the data break a rule that the
    workload states of them; None when it states none.
    """

    marks: dict[str, list[str]]
    counters: dict[str, int | None] = {}
    refused: dict[str, list[str]] = {}
    order: dict[str, list[str]] = {}
    broken: list[str] | None = None
