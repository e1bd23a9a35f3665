"""The protocol between the harness and a system under test; put your own coordinator behind it.

The harness starts a worker process, loads a `System` into it and calls, in this order: `set_up` once per run;
then, for each process that is started, `open`, `recover`, any number of concurrent `transact`, `read_back`,
and `close` when it ends in peace. A crash may come at any moment, so `open` and `recover` must cope with
whatever the process before left behind, its own unfinished recovery included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from chaos.history.model import Read, StoreImage

Resolution = Literal["committed", "aborted"]


class SiteConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where the stores of this run are.

    redis_host and redis_port lead through the proxy. data_folder holds a folder for each file store
    ("sqlite", "graph"), on a real file system, empty before `set_up`. graph_engine is "kuzu" or "ladybug".
    options has the settings of each store by its name, and those of the system as "system".
    """

    redis_host: str
    redis_port: int
    data_folder: str
    graph_engine: str
    workload: dict[str, Any]
    options: dict[str, Any] = {}

    def folder(self, store: str) -> Path:
        """Return the folder of a file store; it exists."""
        return Path(self.data_folder) / store


class Site(Protocol):
    """What the harness offers inside the worker."""

    @property
    def config(self) -> SiteConfig:
        """Where the stores are."""

    async def phase(self, name: str, token: str | None = None, store: str | None = None) -> None:
        """Tell the harness that `token` has reached phase `name`; it is written into the history.

        Returns at once, unless the experiment's schedule has a rule for this phase: then it returns when the
        fault is in place (or never, when the fault kills this process). Safe to cancel.
        """

    def child(self, target: str, pid: int | None) -> None:
        """Tell the harness the pid of a child process ("graph"), so that faults can aim at it; None: it ended."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction to run. `deadline_s` is counted from the call; `spec` is what the workload drew.

    spec["mark"] is the text that every store must hold for `token` once it is committed.
    """

    token: str
    deadline_s: float
    spec: dict[str, Any]


class Committed(msgspec.Struct, frozen=True, kw_only=True, tag="committed"):
    """Durable and decided. `applied` False: a store is still behind and will be brought up by recovery.

    reads: what the workload's body read, for checks of isolation; a system that does not tell is not judged by them.
    """

    csn: int
    applied: bool = True
    reads: Sequence[Read] = ()


class Aborted(msgspec.Struct, frozen=True, kw_only=True, tag="aborted"):
    """Took effect nowhere and never will. `retryable`: only others were in the way, so it may be tried anew.

    refused: the workload's own rule said no (`WorkRefused`), as it should have: the request was done, and denied.
    """

    reason: str
    retryable: bool = False
    refused: bool = False


class InDoubt(msgspec.Struct, frozen=True, kw_only=True, tag="in_doubt"):
    """Not known; `recover` must resolve it."""

    reason: str


Outcome = Committed | Aborted | InDoubt


class System(Protocol):
    """A coordinator under test. Created without arguments inside the worker process."""

    async def set_up(self, site: Site) -> None:
        """Create schema and first rows in every store; called once, before anything else, no fault active."""

    async def open(self, site: Site) -> None:
        """Connect to the stores. May raise; the harness then starts a new process and tries again."""

    async def transact(self, request: Request) -> Outcome:
        """Run one transaction within its deadline. An exception counts as in doubt."""

    async def recover(self, in_doubt: Sequence[str]) -> Mapping[str, Resolution]:
        """Bring every store to a decided state; return the outcome of each token of `in_doubt` that is known."""

    async def read_back(self) -> Mapping[str, StoreImage]:
        """Return what each store holds now, read from the stores themselves and not from memory."""

    async def ping(self) -> Mapping[str, bool]:
        """Tell for each store whether it answers a trivial request now; at most about 1 s."""

    async def close(self) -> None:
        """Release everything; called at the peaceful end of a process."""
