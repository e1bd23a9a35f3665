"""The load: logical clients in a closed or open loop, each with its own random stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from chaos._channel import ChannelClosed, RemoteError
from chaos._seeds import stream
from chaos.history.model import Entry, Kind
from chaos.history.view import NS_PER_S
from chaos.history.writer import HistoryWriter
from chaos.runner.supervisor import Supervisor
from chaos.transactions.system import Aborted, Committed, InDoubt, Outcome
from chaos.workload.base import Workload

GRACE_S = 1.0
"""How long after a transaction's own deadline the harness waits for the worker's word before it is in doubt."""


class Load:
    """The clients of one run. Every invocation is in the history before it is sent.

    A client whose operation ended in doubt goes on under a new process number, as a crashed client would.
    """

    def __init__(self, workload: Workload, seed: int, supervisor: Supervisor, history: HistoryWriter) -> None:
        """Nothing is sent before `start`."""
        self._workload = workload
        self._seed = seed
        self._supervisor = supervisor
        self.history = history
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._next_process = workload.clients
        self.acknowledged = 0
        self.last_error: str | None = None
        """Why the latest transaction that was not acknowledged was not."""
        self.on_acknowledged: Callable[[Entry, Committed], None] | None = None
        """Called with the invocation and the outcome of every acknowledged transaction."""

    def start(self) -> None:
        """Begin; each client waits a drawn share of its pause first, so that they do not march in step."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._client(number)) for number in range(self._workload.clients)]

    async def stop(self) -> None:
        """Let every client finish the operation it has begun, and end. Raises what a client raised."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    def check(self) -> None:
        """Raise what a client died of, if one did."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                task.result()

    def abandon(self) -> None:
        """Cancel the clients; what was invoked stays without completion, and counts as in doubt."""
        for task in self._tasks:
            task.cancel()

    async def _client(self, number: int) -> None:
        rng = stream(self._seed, "client", number)
        loop = asyncio.get_running_loop()
        pause_s = self._workload.clients / self._workload.rate
        is_open = self._workload.arrivals == "open"
        process = number
        ordinal = 0
        due_s = loop.time() + rng.random() * pause_s
        await self._pause(due_s - loop.time())
        while not self._stopping.is_set():
            if await self._worker_ready():
                token = f"c{number}.{ordinal}"
                spec = self._workload.draw(rng, token, number, ordinal)
                ordinal += 1
                late_s = loop.time() - due_s if is_open else None
                if await self.transact(process, token, spec, late_s=late_s) == "info":
                    process = self.new_process()
            # In an open loop the next start does not depend on how long this transaction took.
            due_s = (due_s if is_open else loop.time()) + rng.expovariate(1 / pause_s)
            await self._pause(max(0.0, due_s - loop.time()))

    async def transact(self, process: int, token: str, spec: dict[str, Any], *, late_s: float | None = None) -> Kind:
        """Run one transaction and record it; return how it ended. Never raises for what the system does.

        late_s: how long ago it should have started, in an open loop; it goes into the history.
        """
        await asyncio.sleep(0)  # when no worker is there nothing below waits, and a caller's loop would never yield
        deadline_s = self._workload.deadline_s
        sent = spec if late_s is None else {**spec, "late_ns": round(late_s * NS_PER_S)}
        invoked = self.history.append("invoke", "transact", process=process, token=token, value=sent)
        request = {"token": token, "deadline_s": deadline_s, "spec": spec}
        try:
            answer = await self._supervisor.call("transact", request, deadline_s + GRACE_S)
            outcome: Outcome = msgspec.convert(answer, Outcome)
        except (ChannelClosed, TimeoutError) as error:
            outcome = InDoubt(reason=str(error) or "the worker did not answer within the deadline")
        except (RemoteError, msgspec.ValidationError) as error:
            outcome = InDoubt(reason=f"the system raised {error}")
        return self._record(process, token, outcome, invoked)

    def new_process(self) -> int:
        """Return the number of a logical process that was never used."""
        self._next_process += 1
        return self._next_process - 1

    def _record(self, process: int, token: str, outcome: Outcome, invoked: Entry) -> Kind:
        match outcome:
            case Committed(csn=csn, applied=applied, reads=reads):
                value: dict[str, Any] = {"csn": csn, "applied": applied}
                value |= {"reads": msgspec.to_builtins(reads)} if reads else {}
                self.history.append("ok", "transact", process=process, token=token, value=value)
                self.acknowledged += 1
                if self.on_acknowledged is not None:
                    self.on_acknowledged(invoked, outcome)
                return "ok"
            case Aborted(reason=reason, refused=refused):
                self.last_error = reason
                told = {"refused": True} if refused else None
                self.history.append("fail", "transact", process=process, token=token, value=told, error=reason)
                return "fail"
            case InDoubt(reason=reason):
                self.last_error = reason
                self.history.append("info", "transact", process=process, token=token, error=reason)
                self._supervisor.in_doubt.add(token)
                return "info"

    async def _worker_ready(self) -> bool:
        """Wait until there is a worker to ask, or the load stops."""
        if not self._supervisor.ready.is_set():
            waiters = [
                asyncio.ensure_future(event.wait())
                for event in (self._supervisor.ready, self._supervisor.failed, self._stopping)
            ]
            try:
                await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiter in waiters:
                    waiter.cancel()
        return self._supervisor.ready.is_set() and not self._stopping.is_set()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
