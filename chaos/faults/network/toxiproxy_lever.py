"""The network lever of a real Toxiproxy: kinds of faults become its toxics, and evidence is gathered from outside.

Toxiproxy counts nothing but the bytes of connections that have ended. So every fault has a witness of its own (see
`chaos.faults.network.witness`), the kernel's list of connections says whether somebody else was there to feel it,
and what a toxic swallowed is the difference between what its proxy received and what it sent. Where none of these
shows anything, the counters stay away, and the fault has not landed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaos.backends.connections import connected_to
from chaos.backends.ownership import CLOSED, own_name, owner_of
from chaos.backends.toxiproxy import Stream, Toxiproxy, ToxiproxyError, Traffic
from chaos.errors import HarnessError, HealFailed
from chaos.faults.base import Evidence
from chaos.faults.network.kinds import make_toxic
from chaos.faults.network.link import Side
from chaos.faults.network.probe import Probe, connect
from chaos.faults.network.toxic import ApiToxic, directions
from chaos.faults.network.witness import WITNESSES, SilenceWitness, Witness

STREAMS: Mapping[Side, Stream] = {"request": "upstream", "reply": "downstream"}

_SETTLE_S = 1.0
"""How long the end of a connection may take to reach a client, and a metric to be counted."""

_SETTLE_PAUSE_S = 0.01


@dataclass
class _Acting:
    """A fault that was begun: what it put in place, and who watches it."""

    toxics: list[str] = field(default_factory=list)
    witness: Witness | None = None
    watching: asyncio.Task[None] | None = None
    clients: int | None = None
    """Connections of others when it began; None where they cannot be listed."""
    traffic: Traffic | None = None
    evidence: dict[str, int | float | str] = field(default_factory=dict)


class ToxiproxyLever:
    """The `NetworkLever` of one proxy in a Toxiproxy. One task at a time changes it; others wait their turn."""

    def __init__(self, client: Toxiproxy, name: str, address: tuple[str, int]) -> None:
        """Act on proxy `name`; clients reach it at `address`, an IPv4 address and a port."""
        self._client = client
        self._name = name
        self._address = address
        self._acting: dict[str, _Acting] = {}
        self._closed_by: set[str] = set()
        self._changing = asyncio.Lock()

    async def prepare(self) -> None:
        """Have connections that are opened from now on end with RST when the proxy is closed, not with FIN.

        Toxiproxy sets SO_LINGER to 0 on both sockets of a connection that opens under a reset_peer toxic, even
        under one of toxicity 0, which does nothing else.
        """
        await self._client.add_toxic(self._name, own_name("resets"), "reset_peer", "downstream", 0.0, {"timeout": 0})

    async def inject(self, fault_id: str, kind: str, arguments: Mapping[str, Any]) -> Evidence:
        """Start a fault; see `NetworkLever`. Raises HarnessError for a kind that Toxiproxy does not have.

        Cancellation: the fault may act all the same; heal `fault_id`.
        """
        if fault_id in self._acting:
            raise HarnessError(f"fault_id={fault_id!r} is in use")
        acting = self._acting[fault_id] = _Acting()
        await self._in_turn(self._begin(fault_id, acting, kind, arguments))
        return dict(acting.evidence)

    async def heal(self, fault_id: str) -> Evidence:
        """Stop a fault and return its counters; {} for an unknown id. Raises HealFailed when it cannot be stopped."""
        acting = self._acting.get(fault_id)
        if acting is None:
            return {}
        try:
            await self._in_turn(self._take_back(fault_id, acting))
            await self._gather(acting)
        except HarnessError as error:
            raise HealFailed(
                f"proxy {self._name}: fault {fault_id} could not be healed: {error}; "
                f"remove its toxics with `chaos heal --toxiproxy {self._client.url}`"
            ) from error
        self._acting.pop(fault_id, None)
        return dict(acting.evidence)

    async def _in_turn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do one change after the other, each to its end: a request that was sent cannot be called back."""

        async def alone() -> None:
            async with self._changing:
                await work

        task = asyncio.get_running_loop().create_task(alone())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever asked may have left
        await asyncio.shield(task)

    async def _begin(self, fault_id: str, acting: _Acting, kind: str, arguments: Mapping[str, Any]) -> None:
        match kind, arguments:
            case "network.disconnect", {"how": "rst" | "fin"}:
                acting.evidence |= await self._cut(fault_id, lasting=False)
            case "network.refuse", {"cut": True}:
                acting.evidence |= await self._cut(fault_id, lasting=True)
                acting.evidence["probe_refused"] = int(await self._refuses())
            case "network.partition", {"side": side, "mode": mode}:
                await self._silence(fault_id, acting, directions(side), discards=mode == "discard")
            case _:
                await self._api_toxic(fault_id, acting, kind, arguments)

    async def _silence(
        self, fault_id: str, acting: _Acting, sides: tuple[Side, ...], *, discards: bool, toxicity: float = 1.0
    ) -> None:
        acting.witness = SilenceWitness(self._address, sides, discards=discards)
        if discards:
            acting.traffic = await self._traffic()
            await self._put_in(fault_id, acting, sides, "timeout", {"timeout": 0}, toxicity)
        else:
            await self._put_in(fault_id, acting, sides, "bandwidth", {"rate": 0})

    async def _api_toxic(self, fault_id: str, acting: _Acting, kind: str, arguments: Mapping[str, Any]) -> None:
        toxic = make_toxic(kind, arguments)
        if not isinstance(toxic, ApiToxic) or toxic.api_type not in WITNESSES:
            raise HarnessError(f"kind={kind!r} with {dict(arguments)} is not among the faults that a Toxiproxy has")
        attributes = toxic.attributes()
        if attributes == {"timeout": 0} and toxic.api_type == "timeout":
            await self._silence(fault_id, acting, toxic.sides, discards=True, toxicity=toxic.toxicity)
            return
        acting.witness = WITNESSES[toxic.api_type](self._address, toxic.sides, attributes)
        await acting.witness.before()
        await self._put_in(fault_id, acting, toxic.sides, toxic.api_type, attributes, toxic.toxicity)

    async def _put_in(
        self,
        fault_id: str,
        acting: _Acting,
        sides: Iterable[Side],
        api_type: str,
        attributes: Mapping[str, int],
        toxicity: float = 1.0,
    ) -> None:
        """Add the toxics of a fault and set its witness to work."""
        acting.clients = self._count_clients()
        for side in sides:
            name = own_name(fault_id.replace("/", "_"), side)
            acting.toxics.append(name)
            await self._client.add_toxic(self._name, name, api_type, STREAMS[side], toxicity, attributes)
        if acting.witness is not None:
            acting.watching = asyncio.get_running_loop().create_task(acting.witness.during())

    async def _take_back(self, fault_id: str, acting: _Acting) -> None:
        """Take back whatever was put in place. May be called again after a failure."""
        failure = await _cancelled(acting.watching)
        if failure is not None:
            acting.evidence["witness_failed"] = repr(failure)
        if acting.witness is not None and acting.clients is not None:
            acting.clients = max(acting.clients, self._count_clients() or 0)
        for name in list(acting.toxics):
            await _unless_absent(self._client.remove_toxic(self._name, name))
            acting.toxics.remove(name)
        if fault_id in self._closed_by:
            await self._open(fault_id)

    async def _gather(self, acting: _Acting) -> None:
        """Add what the witness saw to the evidence; others may change the proxy meanwhile."""
        if acting.witness is None:
            return
        silencing = any(isinstance(one.witness, SilenceWitness) for one in self._acting.values() if one is not acting)
        await acting.witness.after(alone=not silencing and not self._closed_by)
        if acting.clients is None or acting.clients > 0:
            acting.evidence |= acting.witness.seen
            acting.evidence |= await self._swallowed(acting, acting.witness)
        if acting.clients is not None:
            acting.evidence["clients_connected"] = acting.clients

    async def _cut(self, fault_id: str, *, lasting: bool) -> dict[str, int]:
        """Close the proxy, which ends its connections; open it again unless the fault lasts."""
        witness = None
        with contextlib.suppress(OSError):
            witness = await connect(self._address)
        before = self._clients()
        await self._close(fault_id)
        if not lasting:
            await self._open(fault_id)
        try:
            return await self._ends(witness, before)
        finally:
            if witness is not None:
                witness.close()

    async def _ends(self, witness: Probe | None, before: frozenset[int] | None) -> dict[str, int]:
        """Return how many connections ended, others' where they can be listed, and how ours did."""
        how = "not at all"
        if witness is not None:
            with contextlib.suppress(TimeoutError):
                how = await witness.end(_SETTLE_S)
        seen = {"probe_reset": int(how == "rst"), "probe_closed": int(how == "fin")}
        if before is None:
            return {"connections_cut": sum(seen.values()), **seen}
        left = before
        until_s = time.monotonic() + _SETTLE_S
        while left and time.monotonic() < until_s:
            left = before & (self._clients() or frozenset())
            await asyncio.sleep(_SETTLE_PAUSE_S if left else 0)
        return {"connections_cut": len(before) - len(left), **seen}

    async def _close(self, fault_id: str) -> None:
        """Close the listener and all connections. In a Toxiproxy that is not ours, leave a note of who did it."""
        is_first = not self._closed_by
        self._closed_by.add(fault_id)
        if is_first and owner_of(self._name) is None:
            await self._client.add_toxic(self._name, own_name(CLOSED), "noop", "downstream", 0.0, {})
        await self._client.disable(self._name)

    async def _open(self, fault_id: str) -> None:
        """Listen again, unless another fault keeps the proxy closed."""
        if self._closed_by == {fault_id}:
            await self._client.enable(self._name)
            if owner_of(self._name) is None:
                await _unless_absent(self._client.remove_toxic(self._name, own_name(CLOSED)))
        self._closed_by.discard(fault_id)

    async def _refuses(self) -> bool:
        """Tell whether a client gets no connection; a container's published port takes it and closes it again."""
        try:
            probe = await connect(self._address)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        try:
            await probe.ping(_SETTLE_S)
        except TimeoutError:
            return False
        except (OSError, EOFError):
            return True
        finally:
            probe.close()
        return False

    async def _traffic(self) -> Traffic | None:
        """Return the proxy's traffic; None where the server was started without metrics."""
        try:
            return (await self._client.metrics()).get(self._name, Traffic())
        except ToxiproxyError as error:
            if error.status is None:
                raise
            return None

    async def _swallowed(self, acting: _Acting, witness: Witness) -> dict[str, int]:
        """Return what a discarding toxic kept from arriving, beside what was our witness's; {} when nobody counted.

        Bytes are counted when both ends of a connection have gone: a moment after the toxic, or much later when
        another fault holds one of them.
        """
        if acting.traffic is None or not isinstance(witness, SilenceWitness):
            return {}
        own, before = witness.lost, acting.traffic
        lost, until_s = 0, time.monotonic() + _SETTLE_S
        while time.monotonic() < until_s:
            now = await self._traffic() or Traffic()
            last, lost = lost, 0
            for side in witness.sides:
                lost += _lost(now, STREAMS[side]) - _lost(before, STREAMS[side]) - own.get(side, 0)
            if lost > 0 and lost == last:
                return {"bytes_discarded": lost}
            await asyncio.sleep(_SETTLE_PAUSE_S)
        return {"bytes_discarded": lost} if lost > 0 else {}

    def _clients(self) -> frozenset[int] | None:
        """Return the local ports of the connections to the proxy that are not our witnesses'."""
        found = connected_to(*self._address)
        return None if found is None else found - Probe.open_ports

    def _count_clients(self) -> int | None:
        clients = self._clients()
        return None if clients is None else len(clients)


def _lost(traffic: Traffic, stream: Stream) -> int:
    return traffic.received.get(stream, 0) - traffic.sent.get(stream, 0)


async def _cancelled(task: asyncio.Task[None] | None) -> Exception | None:
    """End a witness, and return what it failed with by itself: no evidence, and no reason not to heal."""
    if task is not None:
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return None
        except Exception as error:  # noqa: BLE001  # told in the evidence
            return error
    return None


async def _unless_absent(change: Coroutine[Any, Any, None]) -> None:
    """Make a change; what is not there any more needs none."""
    try:
        await change
    except ToxiproxyError as error:
        if error.status != 404:
            raise
